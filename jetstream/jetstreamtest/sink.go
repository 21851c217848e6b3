package jetstreamtest

import (
	"testing"
	"time"

	"dunlin/sessions"
)

// Sink takes results for a test to read. Its capacity must hold what is not read.
type Sink chan sessions.Result

// Stored implements sessions.Sink.
func (s Sink) Stored(r sessions.Result) { s <- r }

// Next waits for one result.
func (s Sink) Next(t testing.TB) sessions.Result {
	t.Helper()
	select {
	case r := <-s:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no result")
		return sessions.Result{}
	}
}

// Must waits for one result, which must be no error.
func (s Sink) Must(t testing.TB) sessions.Result {
	t.Helper()
	r := s.Next(t)
	if r.Err != nil {
		t.Fatalf("result: %v", r.Err)
	}
	return r
}
