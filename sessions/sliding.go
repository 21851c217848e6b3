package sessions

// slide appends to a queue whose front is taken off by slicing. base is the memory that the queue lives in, and belongs to
// it alone: when the queue has come to its end, and at least half of it is free, the queue moves to its beginning.
func slide[T any](base *[]T, queue []T, v T) []T {
	if len(queue) < cap(queue) {
		return append(queue, v)
	}
	moved := (*base)[:0]
	if cap(moved) < 2*len(queue) || cap(moved) == 0 {
		moved = make([]T, 0, max(2*len(queue), slidingSlots))
		*base = moved
	}
	moved = append(moved, queue...)
	clear(moved[len(moved):cap(moved)]) // what was moved away from there must not be kept alive
	return append(moved, v)
}

// slidingSlots is the smallest memory of a queue.
const slidingSlots = 8

// releaseSpare gives back the memory of queues that are empty: the client is silent.
func (s *Session) releaseSpare() {
	if len(s.inflight) == 0 {
		s.inflight, s.inflightBase = nil, nil
	}
	if len(s.pending) == 0 {
		s.pending, s.pendingBase = nil, nil
	}
	if len(s.backlog) == 0 {
		s.backlog, s.backlogBase = nil, nil
	}
}
