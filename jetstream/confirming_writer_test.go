package jetstream

import (
	"errors"
	"testing"

	"dunlin/sessions"
)

// deafWriter writes, and does not hear the answers of as many writes as it is told; or it does not write at all.
type deafWriter struct {
	writer
	deaf, mute int
}

func (d *deafWriter) publish(w write) {
	to := w.to
	switch {
	case d.mute > 0:
		d.mute--
		go to.Stored(sessions.Result{Token: w.token, Err: sessions.ErrUnavailable})
		return
	case d.deaf > 0:
		d.deaf--
		w.to = sinkFunc(func(r sessions.Result) { to.Stored(sessions.Result{Token: r.Token, Err: sessions.ErrUnavailable}) })
	}
	d.writer.publish(w)
}

func TestUnansweredWritesOfDocumentsGetTheirResult(t *testing.T) {
	config := DefaultEmbeddedConfig(t.TempDir())
	config.Listen = ListenOff
	embedded, err := StartEmbedded(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = embedded.Shutdown(t.Context()) }()
	nc, err := embedded.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s, err := Open(t.Context(), nc, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	deaf := &deafWriter{writer: s.state.(*confirmingWriter).writer}
	s.store.publisher = newConfirmingWriter(deaf, s.store.config, s.state.(*confirmingWriter).reader)
	save := func(document string, expect uint64) sessions.Result {
		done := make(waiter, 1)
		s.store.SaveJournal("c", []byte(document), expect, sessions.AtOnce, done, 1)
		return <-done
	}
	deaf.deaf = 1
	first := save("one", 0)
	if first.Err != nil || first.Sequence == 0 {
		t.Fatalf("stored and not heard of: %+v", first)
	}
	deaf.mute = 3
	second := save("two", first.Sequence)
	if second.Err != nil || second.Sequence <= first.Sequence {
		t.Fatalf("not stored at first: %+v", second)
	}
	deaf.mute = 1
	if r := save("three", first.Sequence); !errors.Is(r.Err, sessions.ErrConflict) {
		t.Fatalf("another's document is there: %+v", r)
	}
	deaf.mute, deaf.deaf = 1, 1 // the second attempt is stored, and not heard of
	if r := save("four", second.Sequence); r.Err != nil || r.Sequence <= second.Sequence {
		t.Fatalf("stored by the second attempt: %+v", r)
	}
	stored, err := s.store.Load(t.Context(), "c")
	if err != nil || stored.Journal != nil { // without a record it is nobody's
		t.Errorf("load: %+v, %v", stored, err)
	}
	deaf.mute = 1 << 30
	done := make(waiter, 1)
	s.store.SaveJournal("d", []byte("x"), 0, sessions.AtOnce, done, 7)
	s.store.publisher.close()
	if r := <-done; !errors.Is(r.Err, sessions.ErrUnavailable) || r.Token != 7 {
		t.Errorf("at the end: %+v", r)
	}
}
