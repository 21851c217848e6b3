package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// maxAnswers is how many messages one request may be answered with; an inbox holds them all, so that none is dropped.
const maxAnswers = 512

// inbox is reply subjects with a subscription, used by one request at a time.
type inbox struct {
	// base begins the reply subjects; subject is that of the present request, the number of which is requests.
	base     string
	subject  string
	requests uint64
	answers  chan *nats.Msg
	sub      *nats.Subscription
}

// next makes the reply subject that of another request.
func (in *inbox) next() {
	in.requests++
	in.subject = in.base + strconv.FormatUint(in.requests, 36)
}

// inboxes keeps inboxes for reuse: to subscribe costs more than to ask. Safe for concurrent use.
type inboxes struct {
	nc *nats.Conn
	// timeout is how long the next answer to a request may take.
	timeout time.Duration
	// clustered: several servers may answer one request, as all do that know of no leader. What comes late must not be taken for
	// the answer to the next one, so each has a reply subject of its own. Else it is the same for all on an inbox: the server finds
	// subjects faster that it knows.
	clustered bool

	status  chan nats.Status
	stopped chan struct{}

	mu   sync.Mutex
	idle []*inbox      // guarded by mu
	lost chan struct{} // guarded by mu: closed when the connection that is used now is lost
}

func newInboxes(nc *nats.Conn, timeout time.Duration) *inboxes {
	s := &inboxes{
		nc: nc, timeout: timeout, clustered: nc.ConnectedClusterName() != "", status: nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED),
		stopped: make(chan struct{}), lost: make(chan struct{}),
	}
	go s.watch()
	return s
}

// watch fails the requests under way when the connection is lost: they are never answered. It ends with close.
func (s *inboxes) watch() {
	defer close(s.stopped)
	for range s.status {
		s.mu.Lock()
		close(s.lost)
		s.lost = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *inboxes) loss() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// maxIdleInboxes bounds what is kept after a burst.
const maxIdleInboxes = 256

// open makes an inbox that is not kept for others, for up to so many answers at once.
func (s *inboxes) open(answers int) (*inbox, error) {
	in := &inbox{base: s.nc.NewInbox() + ".", answers: make(chan *nats.Msg, answers+8)}
	in.next()
	var err error
	if in.sub, err = s.nc.ChanSubscribe(in.base+"*", in.answers); err != nil {
		return nil, clientErr(err)
	}
	return in, nil
}

// close ends an inbox that open has made.
func (in *inbox) close() {
	_ = in.sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
}

func (s *inboxes) take() (*inbox, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		in := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return in, nil
	}
	s.mu.Unlock()
	return s.open(maxAnswers)
}

// takeForConsumer is take for messages of a consumer, which come with the subject that they were published on: where others may
// answer late, they cannot be told apart, so that it has to be a new one.
func (s *inboxes) takeForConsumer() (*inbox, error) {
	if s.clustered {
		return s.open(maxAnswers)
	}
	return s.take()
}

// give takes an inbox back. settled: the request on it was answered to its end, so that nothing more can arrive. An
// inbox that is not loses its subscription, and with it the server its interest in answering.
func (s *inboxes) give(in *inbox, settled bool) {
	s.mu.Lock()
	if settled && len(s.idle) < maxIdleInboxes {
		s.idle = append(s.idle, in)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	_ = in.sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
}

// close ends the watch and the subscriptions that are kept.
func (s *inboxes) close() {
	s.nc.RemoveStatusListener(s.status)
	<-s.stopped
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.idle {
		_ = in.sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	}
	s.idle = nil
}

// request sends data to subject and hands each answer to visit until it returns done = true. An answer that does not come
// is ErrUnavailable. Answers that were under way when request failed are lost.
func (s *inboxes) request(ctx context.Context, subject string, data []byte, visit func(*nats.Msg) (done bool)) error {
	in, err := s.take()
	if err != nil {
		return err
	}
	err = s.ask(ctx, in, subject, data, visit)
	s.give(in, err == nil)
	return err
}

// ask is one of several requests on an inbox, whose answers come on its subject. Those of consumers do not.
func (s *inboxes) ask(ctx context.Context, in *inbox, subject string, data []byte, visit func(*nats.Msg) (done bool)) error {
	if s.clustered {
		in.next()
		visit = in.only(visit)
	}
	return s.exchange(ctx, in, s.timeout, subject, data, visit)
}

// collect is request with a timeout of its own, and for the messages of a consumer. What was under way when it failed reaches visit
// all the same.
func (s *inboxes) collect(ctx context.Context, timeout time.Duration, subject string, data []byte, visit func(*nats.Msg) (done bool)) error {
	in, err := s.takeForConsumer()
	if err != nil {
		return err
	}
	if err = s.exchange(ctx, in, timeout, subject, data, visit); err == nil {
		s.give(in, !s.clustered) // where there are replicas, messages may come behind what says that there are no more
		return nil
	}
	if !s.nc.IsConnected() {
		_ = in.sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	} else if in.sub.Drain() == nil {
		_ = s.nc.FlushTimeout(s.timeout) // the server sends nothing after its answer; without one the rest is lost
	}
	for {
		select {
		case m := <-in.answers:
			visit(m)
		default:
			return err
		}
	}
}

// exchange is one request on an inbox.
func (s *inboxes) exchange(ctx context.Context, in *inbox, timeout time.Duration, subject string, data []byte, visit func(*nats.Msg) (done bool)) error {
	lost := s.loss()
	if err := s.nc.PublishRequest(subject, in.subject, data); err != nil {
		return clientErr(err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case m := <-in.answers: // most have come together
			if visit(m) {
				return nil
			}
			continue
		default:
		}
		timer.Reset(timeout)
		select {
		case m := <-in.answers:
			if visit(m) {
				return nil
			}
		case <-lost:
			return fmt.Errorf("%w: connection lost", sessions.ErrUnavailable)
		case <-timer.C:
			return fmt.Errorf("%w: no answer on %s within %v", sessions.ErrUnavailable, subject, timeout)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
			}
			return ctx.Err()
		}
	}
}

// only is visit for the answers to the present request, whatever else comes.
func (in *inbox) only(visit func(*nats.Msg) bool) func(*nats.Msg) bool {
	return func(m *nats.Msg) (done bool) { return m.Subject == in.subject && visit(m) }
}

// status is the status of an answer that is no message: 404, 503 and so on; 0 for a message.
func status(m *nats.Msg) int {
	v, ok := headerValue(m.Header, headerStatus)
	if !ok || len(v) != 3 || len(m.Data) > 0 {
		return 0
	}
	code := 0
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return 0
		}
		code = code*10 + int(v[i]-'0')
	}
	return code
}
