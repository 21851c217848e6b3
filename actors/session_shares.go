package actors

import (
	"slices"
	"sync/atomic"

	"dunlin/sessions"
)

// sharing is what a session actor gathers for its shares until it flushes.
type sharing struct {
	// sharedTaken is how many messages of shares were taken since the room was told last.
	sharedTaken int
	// moreRoom: there is room where there was less.
	moreRoom bool
	settles  []sessions.Settle
}

// joinShares makes the session a subscriber of the shared subscriptions of a SUBSCRIBE; the other filters follow.
func (a *sessionActor) joinShares(e sessions.Subscribe) {
	errs := make([]error, len(e.Shares))
	var left atomic.Int64
	left.Store(int64(len(errs)))
	for i, name := range e.Shares {
		a.broker.shares.join(name, a.clientID, func(err error) {
			errs[i] = err
			if left.Add(-1) == 0 {
				a.ref.post(&sharesJoined{e, errs})
			}
		})
	}
}

func (a *sessionActor) onSharesJoined(m *sharesJoined) {
	subscribed := a.session.Shares()
	refused := 0
	for i, name := range m.effect.Shares {
		if m.errs[i] == nil {
			continue
		}
		if refused++; refused == 1 { // the others of a SUBSCRIBE would not say more
			a.broker.log.Warn("shared subscription refused", "client", a.clientID, "filter", name, "err", m.errs[i])
		}
		if !slices.Contains(subscribed, name) {
			a.broker.shares.leave(name, a.clientID)
		}
	}
	a.subscribe(m.effect, m.errs)
}

func (a *sessionActor) shareRoom(e sessions.ShareRoom) {
	a.moreRoom = a.moreRoom || int64(e.Room) > a.member.room.Load()
	a.member.room.Store(int64(e.Room))
}

// flushShares settles what the client has acknowledged, and asks for more if there is room.
func (a *sessionActor) flushShares() {
	a.flushSettles()
	if a.sharedTaken == 0 && !a.moreRoom {
		return
	}
	a.member.sharedHanded.Add(int64(-a.sharedTaken)) // the room does not count them any more
	a.sharedTaken, a.moreRoom = 0, false
	for _, sh := range a.member.shares {
		sh.roomMade()
	}
}

func (a *sessionActor) flushSettles() {
	for len(a.settles) > 0 {
		name := a.settles[0].Share
		var sequences []uint64
		rest := a.settles[:0]
		for _, s := range a.settles {
			if s.Share == name {
				sequences = append(sequences, s.Sequence)
			} else {
				rest = append(rest, s)
			}
		}
		a.settles = rest
		a.broker.shares.settle(name, sequences)
	}
}
