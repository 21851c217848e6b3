package actors

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

const (
	// takeMessages and takeBytes bound what a share takes from its queue at once.
	takeMessages = 256
	takeBytes    = 4 << 20
	// renewEvery is how often the queue is told what is still held.
	renewEvery = sessions.RenewWithin / 3
	// maxRefused bounds the messages that wait for the one member that can take them, while others get what is behind them.
	maxRefused = 64
	// shareRetry is how long a share waits before it asks storage again that has failed.
	shareRetry = 500 * time.Millisecond
)

// share is one shared subscription: it takes messages from its queue as its connected members have room for them, and
// hands each to one. One goroutine of its own takes; whoever makes room or gives back hands out.
type share struct {
	name, filter string
	shares       *shares
	// wake is for its goroutine: there is room, a subscriber, or none any more.
	wake chan struct{}

	// Owned by its goroutine. troubled: storage has failed since it last answered, and that is in the log.
	troubled bool

	// mu guards the fields below it. It is taken before the mailboxes of members.
	mu          sync.Mutex
	subscribers map[string]struct{}
	members     []*member
	next        int
	// queue is nil while it is being opened; then waiting are those who want to know.
	queue   sessions.SharedQueue
	waiting []func(error)
	// ready are the messages that were taken for nobody in particular, in log order.
	ready []sharedEntry
	held  holdings
	// late are the messages that were settled while there was no queue to be told.
	late []uint64
	// over: the last subscriber has left, so the queue has to go, even if somebody has subscribed meanwhile, unless other nodes have
	// subscribers.
	over bool
	// stage is the place of the share here while it is not over.
	stage sessions.SharePlace
	// abandon interrupts taking. It is nil while nothing is taken.
	abandon context.CancelFunc
}

// sharedEntry is a message that waits for a member.
type sharedEntry struct {
	sessions.Entry
	refusals
}

func newShare(s *shares, name string) *share {
	return &share{
		name: name, filter: sharedFilter(name), shares: s, wake: make(chan struct{}, 1),
		subscribers: map[string]struct{}{}, held: newHoldings(), stage: sessions.ShareOpening,
	}
}

// run opens the queue and hands its messages out, until no subscriber is left: then it removes the queue and ends.
func (s *share) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if s.isOver() {
			err = s.shares.remove(ctx, s.name)
			if err == nil && s.end() {
				return
			}
		} else {
			err = s.serve(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.trouble(ctx, err)
		}
	}
	s.closed(ctx.Err())
}

// trouble waits a while after storage has failed. The log has one line until it answers again: there may be many shares.
func (s *share) trouble(ctx context.Context, err error) {
	if !s.troubled {
		s.shares.log.Warn("queue of a shared subscription failed; trying again", "filter", s.name, "err", err)
	}
	s.troubled = true
	s.sleep(ctx, shareRetry)
}

// end takes the share away, unless somebody has subscribed meanwhile.
func (s *share) end() bool {
	s.shares.mu.Lock()
	defer s.shares.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.stage = false, sessions.ShareOpening
	if len(s.subscribers) > 0 {
		return false
	}
	delete(s.shares.open, s.name)
	s.shares.tree.Remove(s.filter, s)
	return true
}

// serve opens the queue and works with it until it fails or there is no subscriber any more. The first one may be that of
// an earlier run, and hold what died with its holders.
func (s *share) serve(ctx context.Context) error {
	var queue sessions.SharedQueue
	s.shares.awaitRemoved(ctx, s.name)
	err := s.shares.call(ctx, func() (err error) {
		queue, err = s.shares.queues.Open(ctx, s.name)
		return err
	})
	if err != nil {
		s.closed(err)
		return err
	}
	s.opened(queue)
	defer s.closed(nil)
	if s.place() != sessions.ShareServed {
		if err := s.reclaim(ctx, queue); err != nil {
			s.enter(sessions.ShareOpening)
			return err
		}
		s.enter(sessions.ShareServed)
	}
	renewed := time.Now()
	for ctx.Err() == nil && !s.isOver() {
		if time.Since(renewed) >= renewEvery {
			s.renew(queue)
			renewed = time.Now()
		}
		room := s.room()
		if room == 0 {
			s.sleep(ctx, time.Until(renewed.Add(renewEvery)))
			continue
		}
		if err := s.take(ctx, queue, room); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for wake, for a while at most.
func (s *share) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *share) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// opened lets those know who wait for the queue.
func (s *share) opened(queue sessions.SharedQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = queue
	queue.Settle(s.late...) // before what it brings again is decided
	s.late = nil
	for _, tell := range s.waiting {
		tell(nil)
	}
	s.waiting = nil
}

// closed: there is no queue. Who waits for it is told why, if it cannot be opened. What was taken and not handed out comes
// again when the queue is opened.
func (s *share) closed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.returnReady()
	s.queue, s.ready = nil, nil
	if err == nil {
		return
	}
	for _, tell := range s.waiting {
		tell(err)
	}
	s.waiting = nil
}

// whenOpen calls f once the queue is open, or with the reason why it cannot be opened.
func (s *share) whenOpen(f func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil {
		f(nil)
		return
	}
	s.waiting = append(s.waiting, f)
}

func (s *share) subscribe(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers[clientID] = struct{}{}
	s.rouse()
}

// unsubscribe forgets a subscriber. What it holds is its own until it says otherwise.
func (s *share) unsubscribe(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, clientID)
	if len(s.subscribers) == 0 {
		s.finish()
	}
}

// handOver leaves what a subscriber holds to another node.
func (s *share) handOver(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sequence, holder := range s.held.bySequence {
		if holder.clientID == clientID {
			s.held.remove(sequence)
		}
	}
}

// finish ends the share: whoever subscribes next starts anew. mu is held.
func (s *share) finish() {
	s.over = true
	s.returnReady()
	s.queue, s.ready, s.held, s.late = nil, nil, newHoldings(), nil
	if s.abandon != nil {
		s.abandon()
	}
	s.rouse()
}

func (s *share) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// reconcile: a client's session holds these messages and no others.
func (s *share) reconcile(clientID string, held map[uint64]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.count[clientID] > 0 {
		var lost []uint64
		for sequence, holder := range s.held.bySequence {
			if _, still := held[sequence]; holder.clientID == clientID && !still {
				lost = append(lost, sequence)
			}
		}
		s.returnLocked(lost...)
	}
	for sequence := range held {
		s.held.set(sequence, holding{clientID: clientID})
	}
}

// returnLocked has the queue bring messages again.
func (s *share) returnLocked(sequences ...uint64) {
	for _, sequence := range sequences {
		s.held.remove(sequence)
	}
	if s.queue != nil && len(sequences) > 0 {
		s.queue.Return(sequences...)
		s.rouse()
	}
}

// returnReady has the queue bring again what was taken for nobody in particular. mu is held.
func (s *share) returnReady() {
	if s.queue == nil || len(s.ready) == 0 {
		return
	}
	sequences := make([]uint64, len(s.ready))
	for i, e := range s.ready {
		sequences[i] = e.Sequence
	}
	s.queue.Return(sequences...)
	s.ready = nil
}

func (s *share) attach(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.members) == 0 {
		s.shares.live.hold(s.name)
	}
	s.members = append(s.members, m)
	s.handOut()
}

// detach ends the handing of messages to a member. When it returns nothing more is posted.
func (s *share) detach(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.members)
	s.members = slices.DeleteFunc(s.members, func(other *member) bool { return other == m })
	if before > 0 && len(s.members) == 0 {
		s.shares.live.release(s.name)
	}
	s.handOut() // who is left may be who it waited for
}

// roomMade: a member can take more.
func (s *share) roomMade() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handOut()
}

// room is how many messages to take: what the members have room for, nothing while some wait that anybody could take.
func (s *share) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := 0
	for _, e := range s.ready {
		if bytes += e.Message.Memory(); len(e.members) == 0 || bytes >= takeBytes {
			return 0
		}
	}
	if len(s.ready) >= maxRefused {
		return 0
	}
	room := 0
	for _, m := range s.members {
		room += m.sharedRoom()
	}
	return min(room, takeMessages)
}

// take waits a while for messages and hands them out.
func (s *share) take(ctx context.Context, queue sessions.SharedQueue, room int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.abandon = cancel
	if s.over {
		cancel()
	}
	s.mu.Unlock()
	entries, err := queue.Take(ctx, room, takeBytes)
	s.taken(queue, entries)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		s.troubled = false
	case errors.Is(err, sessions.ErrNotFound): // deleted by somebody else
		return err
	default:
		s.trouble(ctx, err)
	}
	return nil
}

// taken hands out what was taken.
func (s *share) taken(queue sessions.SharedQueue, entries []sessions.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandon = nil
	if s.over {
		return // the queue goes
	}
	for _, e := range entries {
		switch {
		case s.held.has(e.Sequence): // not renewed in time: its holder has it all the same
		case !mqttcodec.MatchTopic(s.filter, e.Message.Topic): // [MQTT-4.7.2-1]
			queue.Settle(e.Sequence)
		default:
			s.readyLocked(sharedEntry{e, refusals{}})
		}
	}
	s.handOut()
}

// readyLocked puts a message among those that wait, in log order.
func (s *share) readyLocked(e sharedEntry) {
	i, found := slices.BinarySearchFunc(s.ready, e.Sequence, func(other sharedEntry, sequence uint64) int {
		return int(min(1, max(-1, int64(other.Sequence)-int64(sequence))))
	})
	if !found {
		s.ready = slices.Insert(s.ready, i, e)
	}
}

// handOut hands the messages that are ready to members with room, in turns. Without a member they go back to the queue: other nodes
// may have some. mu is held.
func (s *share) handOut() {
	if len(s.members) == 0 {
		s.returnReady()
	}
	if len(s.ready) == 0 || s.queue == nil {
		s.rouse()
		return
	}
	batches := map[*member][]sessions.Entry{}
	var order []*member
	ready, left, full := s.ready, s.ready[:0], false
	for i, e := range ready {
		m := s.choose(func(m *member) bool { return m.sharedRoom() > 0 && !slices.Contains(e.members, m) })
		if m == nil && len(e.members) == 0 { // nobody has room
			left, full = append(left, ready[i:]...), true
			break
		}
		if m == nil && !s.refusedByAll(e) {
			left = append(left, e) // it waits for those who can take it; what is behind it may be for others
			continue
		}
		if m == nil { // [MQTT-3.1.2-25]
			s.shares.stats.Dropped("", e.why, 1)
			s.queue.Settle(e.Sequence)
			continue
		}
		m.sharedHanded.Add(1)
		s.held.set(e.Sequence, holding{m.clientID, e.refusals})
		if batches[m] == nil {
			order = append(order, m)
		}
		batches[m] = append(batches[m], e.Entry)
	}
	clear(ready[len(left):])
	if s.ready = left; len(left) == 0 {
		s.ready = nil
	}
	for _, m := range order {
		m.post(sessions.SharedDelivered{Share: s.name, Entries: batches[m]})
	}
	if !full {
		s.rouse()
	}
}

// choose is the next member in turn that can be chosen, nil when none can. mu is held.
func (s *share) choose(can func(*member) bool) *member {
	for range s.members {
		if s.next >= len(s.members) {
			s.next = 0
		}
		m := s.members[s.next]
		s.next++
		if can(m) {
			return m
		}
	}
	return nil
}

// refusedByAll reports whether a message cannot go to any connected member, room or not. mu is held.
func (s *share) refusedByAll(e sharedEntry) bool {
	return len(e.members) > 0 && !slices.ContainsFunc(s.members, func(m *member) bool { return !slices.Contains(e.members, m) })
}

// settle ends messages. mu must not be held.
func (s *share) settle(sequences []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sequence := range sequences {
		if s.queue == nil && s.held.has(sequence) {
			s.late = append(s.late, sequence)
		}
		s.held.remove(sequence)
	}
	if s.queue != nil {
		s.queue.Settle(sequences...)
	}
}

// giveBack takes messages back from a member, which cannot have them if there is a reason why.
func (s *share) giveBack(entries []sessions.Entry, m *member, why sessions.DropReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		holder, held := s.held.bySequence[e.Sequence]
		if !held || holder.clientID != m.clientID {
			continue // the share has ended meanwhile, or has given it to another
		}
		if e.Message == nil || s.queue == nil { // the queue brings it again
			s.returnLocked(e.Sequence)
			continue
		}
		s.held.remove(e.Sequence)
		back := sharedEntry{e, holder.refusals}
		if why != "" {
			back.members, back.why = append(back.members, m), why
		}
		s.readyLocked(back)
	}
	s.handOut()
}

// renew tells the queue what is still held.
func (s *share) renew(queue sessions.SharedQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequences := make([]uint64, 0, len(s.held.bySequence)+len(s.ready))
	for sequence := range s.held.bySequence {
		sequences = append(sequences, sequence)
	}
	for _, e := range s.ready {
		sequences = append(sequences, e.Sequence)
	}
	queue.Renew(sequences...)
}

// route hands a QoS 0 message to one member that can take it now. (4.8.2)
func (s *share) route(msg *sessions.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.members) == 0 {
		return
	}
	m := s.choose(func(m *member) bool { return m.takesShared() && m.reserve(1, msg.Memory()) })
	if m == nil {
		s.shares.stats.Dropped("", sessions.DropSlowConsumer, 1)
		return
	}
	m.post(sessions.SharedRouted{Share: s.name, Messages: []*sessions.Message{msg}})
}
