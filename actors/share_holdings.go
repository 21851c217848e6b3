package actors

import "dunlin/sessions"

// holdings are the messages of a share that are with a member or, as its session knows, with a client. Not safe for
// concurrent use.
type holdings struct {
	bySequence map[uint64]holding
	// count is how many each client identifier has: most have none, and need not be looked for.
	count map[string]int
}

// holding is who has a message.
type holding struct {
	clientID string
	refusals
}

// refusals are the members that a message cannot go to.
type refusals struct {
	members []*member
	// why is the last reason given.
	why sessions.DropReason
}

func newHoldings() holdings {
	return holdings{bySequence: map[uint64]holding{}, count: map[string]int{}}
}

// has reports whether somebody has a message.
func (h *holdings) has(sequence uint64) bool {
	_, held := h.bySequence[sequence]
	return held
}

// set notes who has a message now.
func (h *holdings) set(sequence uint64, by holding) {
	h.remove(sequence)
	h.bySequence[sequence] = by
	h.count[by.clientID]++
}

// remove notes that nobody has a message any more.
func (h *holdings) remove(sequence uint64) {
	by, held := h.bySequence[sequence]
	if !held {
		return
	}
	delete(h.bySequence, sequence)
	if h.count[by.clientID]--; h.count[by.clientID] == 0 {
		delete(h.count, by.clientID)
	}
}
