package actors

// sourcePolicy decides, for a session that is further behind than the ring reaches, whether it reads its durable queue or
// the log together with others. What both cost is counted in messages of a linear read, about 5 us each. The figures are in
// docs/adr/0011-catching-up.md.
type sourcePolicy struct {
	// from is Config.SharedReadFrom.
	from int
}

// behindRing is what is known about such a session.
type behindRing struct {
	// durable: it may have a durable queue.
	durable bool
	filters int
	// distance is how many sequences lie between its position and the ring.
	distance uint64
	// queued is how many messages wait in its durable queue, 0 when that is not known.
	queued uint64
	// sessions is how many sessions are as far behind, this one included.
	sessions int
}

// What a message of a durable queue costs, in messages of a linear read: with one filter the server finds it by its index,
// with several it looks at what lies between.
const (
	queueCost      = 8
	queueCostMulti = 50
)

// shares reports whether the session takes part in the shared read of the log.
func (p sourcePolicy) shares(s behindRing) bool {
	switch {
	case !s.durable || p.from == 0:
		return true
	case p.from < 0:
		return false
	}
	each := uint64(queueCost)
	if s.filters > 1 {
		each = queueCostMulti
	}
	own := max(sharedReadPer/uint64(p.from), s.queued*each)
	return s.distance/uint64(s.sessions) <= own
}

// sharedReadPer is the number of messages that Config.SharedReadFrom is about.
const sharedReadPer = 100_000
