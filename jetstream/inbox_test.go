package jetstream

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// In a cluster several servers may answer one request, as all do that know of no leader. None of their answers is taken for that to
// another request.
func TestLateAnswerIsForNoOtherRequest(t *testing.T) {
	e, nc := startServer(t)
	service, err := e.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	_, err = service.Subscribe("ask", func(m *nats.Msg) {
		for range 3 {
			_ = m.Respond(m.Data) // of a test that has failed
		}
	})
	if err == nil {
		err = service.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	in := newInboxes(nc, 10*time.Second)
	defer in.close()
	in.clustered = true
	for _, question := range []string{"a", "b", "c", "d"} {
		err := in.request(context.Background(), "ask", []byte(question), func(m *nats.Msg) bool {
			if string(m.Data) != question {
				t.Errorf("asked %s, and answered %s", question, m.Data)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil { // the others have come, too
			t.Fatal(err)
		}
	}
}
