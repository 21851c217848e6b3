package sessions

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"dunlin/mqttcodec"
)

// answer are the commands by which storage and the router answer. Each takes the oldest effect of its kind that is owed
// an answer.
func (sc *script) answer(a args) bool {
	switch a.cmd {
	// persisted
	// persisted err=unavailable token=3
	// persisted err=unavailable stored
	case "persisted":
		want := a.uint64("token", 0)
		e := take(sc, func(e Persist) bool { return want == 0 || e.Token == want })
		err := failure(a)
		r := Result{Token: e.Token, Err: err}
		if err == nil || a.has("stored") {
			r = sc.store.append(e, sc.now)
			r.Err = err
		}
		sc.step(Persisted{[]Result{r}})
	// authenticated limited data=welcome
	// authenticated principal=bob
	// authenticated more data=question
	// authenticated err=refused reason=0x9c reference=other
	case "authenticated":
		sc.step(sc.authenticated(a, take(sc, func(Authenticate) bool { return true })))
	// record-saved
	// record-saved err=conflict
	case "record-saved":
		sc.step(RecordSaved{sc.saved(a, take(sc, func(SaveRecord) bool { return true }))})
	case "journal-saved":
		sc.step(JournalSaved{sc.saved(a, take(sc, func(SaveJournal) bool { return true }))})
	case "discarded":
		sc.step(Discarded{sc.saved(a, take(sc, func(Discard) bool { return true }))})
	// subscribed
	// subscribed err=unavailable
	// subscribed share-err=rejected
	// subscribed max=2
	case "subscribed": // with the retained messages that the log knows, or the first of them
		e := take(sc, func(Subscribe) bool { return true })
		in := Subscribed{Token: e.Token, Position: at(sc.store.handed), Err: failure(a)}
		for i, filter := range e.Filters {
			in.Retained = append(in.Retained, RetainedPart{})
			if e.WantRetained[i] {
				in.Retained[i] = sc.store.retained(filter, "", a.int("max", math.MaxInt))
			}
		}
		for range e.Shares {
			in.ShareErrs = append(in.ShareErrs, shareFailure(a))
		}
		sc.step(in)
	// retained-read
	// retained-read max=2
	case "retained-read":
		e := take(sc, func(ReadRetained) bool { return true })
		part := sc.store.retained(e.Filter, e.After, a.int("max", e.Max))
		sc.step(RetainedRead{Token: e.Token, Filter: e.Filter, RetainedPart: part})
	// replays-found
	// replays-found after=3
	// replays-found err=not-found
	case "replays-found":
		e := take(sc, func(FindReplays) bool { return true })
		in := ReplaysFound{Token: e.Token}
		for _, start := range e.Starts {
			found := ReplayFound{After: at(a.uint64("after", max(start.Sequence, 1)-1)), Err: failure(a)}
			in.Found = append(in.Found, found)
		}
		sc.step(in)
	// replay-read
	// replay-read max=2
	case "replay-read": // with what the log holds
		e := take(sc, func(ReadReplay) bool { return true })
		sc.step(sc.replayRead(e, min(e.Max, a.int("max", e.Max))))
	// fetched
	// fetched max=2 queued=10 head=50 lost=3
	// fetched token=9 err=unavailable
	case "fetched": // with what the log holds; live when that is all
		sc.step(sc.fetched(a))
	// left
	// left seq=0
	case "left":
		take(sc, func(Leave) bool { return true })
		sc.step(Left{Position: at(a.uint64("seq", sc.store.handed))})
	case "loaded":
		e := take(sc, func(Load) bool { return true })
		in := Loaded{Token: e.Token, Err: failure(a)}
		for _, seq := range e.Sequences {
			if found, ok := sc.store.entry(seq); ok && in.Err == nil {
				in.Entries = append(in.Entries, found)
			}
		}
		sc.step(in)
	case "journal-turn":
		take(sc, func(RequestJournalTurn) bool { return true })
		sc.step(JournalTurn{})
	default:
		return false
	}
	return true
}

// shareFailure is why a shared subscription cannot be joined.
func shareFailure(a args) error {
	switch a.text("share-err", "") {
	case "rejected":
		return ErrRejected
	case "unavailable":
		return ErrUnavailable
	}
	return nil
}

// authenticated answers an Authenticate.
func (sc *script) authenticated(a args, e Authenticate) Authenticated {
	in := Authenticated{Connection: e.Connection}
	if a.text("err", "") == "refused" {
		in.Err = &Refusal{Reason: a.reason(), ServerReference: a.text("reference", ""), Detail: "wrong answer"}
		return in
	}
	in.Err = failure(a)
	in.Progress = Progress{Data: a.data(), Done: !a.has("more")}
	if in.Progress.Done {
		in.Progress.Identity = sc.identity(a)
		in.Progress.Identity.Principal = a.text("principal", sc.s.identity.Principal)
	}
	return in
}

// saved is the result of a write of a document.
func (sc *script) saved(a args, e Effect) Result {
	err := failure(a)
	if err != nil && !a.has("stored") {
		return Result{Err: err}
	}
	r := sc.store.save(e)
	if r.Err != nil {
		sc.t.Errorf("%T: %v", e, r.Err)
	}
	if err != nil {
		return Result{Token: r.Token, Err: err}
	}
	return r
}

// take removes the oldest effect of a kind from what is owed.
func take[E Effect](sc *script, wanted func(E) bool) E {
	sc.t.Helper()
	for i, e := range sc.owed {
		if e, ok := e.(E); ok && wanted(e) {
			sc.owed = append(sc.owed[:i:i], sc.owed[i+1:]...)
			return e
		}
	}
	var none E
	sc.t.Fatalf("no %T is owed an answer", none)
	return none
}

// failure is the error that an answer brings.
func failure(a args) error {
	switch v := a.text("err", ""); v {
	case "":
		return nil
	case "rejected":
		return fmt.Errorf("stream: %w", ErrRejected)
	case "unavailable":
		return fmt.Errorf("stream: %w", ErrUnavailable)
	case "conflict":
		return fmt.Errorf("stream: %w", ErrConflict)
	case "not-found":
		return fmt.Errorf("log: %w", ErrNotFound)
	default:
		a.t.Fatalf("unknown error %q", v)
		return nil
	}
}

// fetched answers the oldest Fetch or Join.
func (sc *script) fetched(a args) Fetched {
	if a.has("token") { // one that nobody asked for
		return Fetched{Token: a.uint64("token", 0), UpTo: at(sc.store.head()), Live: true, Err: failure(a)}
	}
	e := take(sc, func(e Effect) bool {
		switch e.(type) {
		case Fetch, Join:
			return true
		}
		return false
	})
	head := at(sc.store.head())
	in := Fetched{Err: failure(a), Queued: a.uint64("queued", 0), Head: at(a.uint64("head", head.Sequence)), Lost: a.uint64("lost", 0)}
	join, ok := e.(Join)
	if ok {
		in.Token, in.UpTo, in.Live = join.Token, head, in.Err == nil
		sc.store.handed = head.Sequence
		return in
	}
	fetch := e.(Fetch)
	in.Token = fetch.Token
	if in.Err != nil {
		return in
	}
	in.Entries = sc.store.after(fetch.After.Sequence, a.int("max", math.MaxInt))
	in.UpTo, in.Live = head, true
	if n := len(in.Entries); n > 0 && in.Entries[n-1].Sequence < head.Sequence {
		in.UpTo, in.Live = in.Entries[n-1].Position, false
	} else if a.has("not-live") {
		in.Live = false
	}
	if in.Live {
		sc.store.handed = head.Sequence
	}
	return in
}

// replayRead is what the log has for a replay.
func (sc *script) replayRead(e ReadReplay, most int) ReplayRead {
	_, filter, _ := strings.Cut(strings.TrimPrefix(e.Filter, replayPrefix), "/")
	in := ReplayRead{Token: e.Token, Filter: e.Filter, UpTo: at(max(sc.store.head(), e.After.Sequence))}
	for _, entry := range sc.store.after(e.After.Sequence, math.MaxInt) {
		if entry.Message == nil || !mqttcodec.MatchTopic(filter, entry.Message.Topic) {
			continue
		}
		if len(in.Entries) == most {
			in.UpTo = in.Entries[most-1].Position
			break
		}
		in.Entries = append(in.Entries, entry)
	}
	return in
}

// settle answers everything, oldest first, until nothing is owed but what the log does not hold yet.
func (sc *script) settle() {
	waits := func(e Effect) bool {
		read, ok := e.(ReadReplay)
		return ok && len(sc.replayRead(read, 1).Entries) == 0
	}
	for {
		next := slices.IndexFunc(sc.owed, func(e Effect) bool { return !waits(e) })
		if next < 0 {
			return
		}
		a := args{t: sc.t}
		switch sc.owed[next].(type) {
		case FindReplays:
			a.cmd = "replays-found"
		case ReadReplay:
			a.cmd = "replay-read"
		case Authenticate:
			a.cmd = "authenticated"
		case Persist:
			a.cmd = "persisted"
		case SaveRecord:
			a.cmd = "record-saved"
		case SaveJournal:
			a.cmd = "journal-saved"
		case Discard:
			a.cmd = "discarded"
		case Subscribe:
			a.cmd = "subscribed"
		case ReadRetained:
			a.cmd = "retained-read"
		case Fetch, Join:
			a.cmd = "fetched"
		case Leave:
			a.cmd = "left"
		case Load:
			a.cmd = "loaded"
		case RequestJournalTurn:
			a.cmd = "journal-turn"
		}
		sc.answer(a)
	}
}

// sent checks that a packet can be written in the client's version, and that a client may take it.
func sent(version mqttcodec.Version, p mqttcodec.Packet) error {
	b, err := mqttcodec.Append(nil, version, p)
	if err != nil {
		return err
	}
	_, err = mqttcodec.Decode(version, b)
	return err
}
