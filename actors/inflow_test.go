package actors

import (
	"testing"
	"testing/synctest"
)

func TestInflowWaitsAtEitherBound(t *testing.T) {
	for _, bound := range []struct{ messages, bytes int }{{10, 1}, {1, 1000}} {
		synctest.Test(t, func(t *testing.T) {
			f := newInflow(10, 1000)
			f.add(bound.messages, bound.bytes)
			done := make(chan bool, 1)
			go func() { done <- f.wait() }()
			synctest.Wait()
			if !f.withheld() || len(done) > 0 {
				t.Fatal("the reader goes on past the bound")
			}
			f.release(bound.messages, bound.bytes)
			if !<-done {
				t.Fatal("the connection counts as closed")
			}
			if f.withheld() {
				t.Fatal("the reader still counts as waiting")
			}
		})
	}
}

func TestInflowDoesNotWaitBelowItsBounds(t *testing.T) {
	f := newInflow(10, 1000)
	f.add(9, 999)
	if !f.wait() {
		t.Fatal("the connection counts as closed")
	}
}

func TestInflowEndsWaitingWhenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newInflow(1, 1)
		f.add(5, 5)
		done := make(chan bool, 1)
		go func() { done <- f.wait() }()
		synctest.Wait()
		f.close()
		if <-done {
			t.Fatal("a closed connection is read from")
		}
		if f.wait() {
			t.Fatal("a closed connection is read from")
		}
	})
}
