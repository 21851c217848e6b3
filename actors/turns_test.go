package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"dunlin/sessions"
)

// turnTaker is a session address whose actor notes the turns that it gets.
func turnTaker(note func()) *sessionRef {
	ref := &sessionRef{mailbox: &mailbox{}}
	ref.mailbox.RegisterHandlers(&recorder{onUser: func(m any) {
		if _, ok := m.(sessions.JournalTurn); ok {
			note()
		}
	}}, &goDispatcher{})
	ref.mailbox.Start()
	return ref
}

// goDispatcher runs each mailbox on its own goroutine.
type goDispatcher struct{}

func (*goDispatcher) Schedule(run func()) { go run() }
func (*goDispatcher) Throughput() int     { return 300 }

// Turns come after their delay, in the order of requests, and no more in a tick than the budget.
func TestJournalTurnsKeepDelayOrderAndBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newJournalTurns()
		defer turns.stop()
		start := time.Now()
		const n = 220
		type turn struct {
			who int
			at  time.Duration
		}
		got := make(chan turn, n)
		for i := range n {
			turns.request(turnTaker(func() { got <- turn{i, time.Since(start)} }))
		}
		perTick := map[time.Duration]int{}
		last := -1
		var at time.Duration
		for range n {
			x := <-got
			if x.at < turnDelay {
				t.Fatalf("turn %d came after %v", x.who, x.at)
			}
			if x.at > at {
				at, last = x.at, x.who-1
			}
			if x.who/turnsPerTick != (last+1)/turnsPerTick {
				t.Fatalf("turn %d came with those from %d on", x.who, last+1)
			}
			perTick[x.at]++
		}
		for at, k := range perTick {
			if k > turnsPerTick {
				t.Fatalf("%d turns at %v", k, at)
			}
		}
		if at > turnDelay+(n/turnsPerTick+2)*turnTick {
			t.Fatalf("the last turn came after %v", at)
		}
	})
}

func TestJournalTurnComesAfterAnIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newJournalTurns()
		defer turns.stop()
		for range 3 {
			elapse(time.Hour)
			start := time.Now()
			got := make(chan struct{})
			turns.request(turnTaker(func() { close(got) }))
			<-got
			if took := time.Since(start); took < turnDelay || took > turnDelay+2*turnTick {
				t.Fatalf("the turn came after %v", took)
			}
		}
	})
}
