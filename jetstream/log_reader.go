package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

const (
	// maxTailBatch is how many entries are handed over at once.
	maxTailBatch = 1024
	// tailBuffer is how many messages may wait for the reader; what comes beyond is dropped and read again.
	// The server's flow control lets 32 MiB be under way, which is that many small messages.
	tailBuffer = 256 << 10
)

var (
	errGap       = errors.New("messages are missing")
	errHeartbeat = errors.New("heartbeats are missing")
	errReconnect = errors.New("connected anew")
)

// tail is one run of Tail. Owned by the goroutine that called it.
type tail struct {
	log     *Log
	deliver func([]sessions.Entry)
	// next is the sequence to go on with.
	next uint64
	// created is when the stream was made that next belongs to.
	created time.Time

	messages chan *nats.Msg
	status   chan nats.Status
	// consumerSequence is that of the last message of the present consumer.
	consumerSequence uint64
	batch            []sessions.Entry
}

// Tail implements sessions.Log. When the log turns out to be cut or made anew it starts again at the first message there.
func (l *Log) Tail(ctx context.Context, after uint64, deliver func([]sessions.Entry)) error {
	t := &tail{
		log: l, deliver: deliver, next: after + 1,
		status: l.nc.StatusChanged(nats.CONNECTED),
		batch:  make([]sessions.Entry, 0, maxTailBatch),
	}
	defer l.nc.RemoveStatusListener(t.status)
	failures := 0
	for {
		before := t.next
		err := t.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if t.next > before {
			failures = 0
		}
		failures++
		l.stats.ReaderRestarts.Add(1)
		if failures&(failures-1) == 0 { // 1, 2, 4, 8 …: it may go on for long
			l.config.Logger.Warn("log reader starts again", "next", t.next, "attempt", failures, "cause", err)
		}
		t.pause(ctx, failures)
	}
}

// pause waits before the next attempt, unless the connection comes back meanwhile.
func (t *tail) pause(ctx context.Context, failures int) {
	if failures == 1 {
		return
	}
	timer := time.NewTimer(min(time.Duration(failures)*50*time.Millisecond, time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.status:
	case <-ctx.Done():
	}
}

// read makes a consumer at next and hands over what it brings, until something is wrong with it.
func (t *tail) read(ctx context.Context) error {
	t.drainStatus()
	if err := t.checkLog(ctx); err != nil {
		return err
	}
	inbox := t.log.nc.NewInbox()
	t.messages = make(chan *nats.Msg, tailBuffer)
	// Only a subscription on the literal deliver subject makes a push consumer start.
	sub, err := t.log.nc.ChanSubscribe(inbox, t.messages)
	if err != nil {
		return clientErr(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the consumer ends itself when nobody listens
	t.consumerSequence = 0
	heartbeat := t.log.config.Heartbeat
	_, err = t.log.js.CreatePushConsumer(ctx, t.log.config.Names.Stream, natsjs.ConsumerConfig{
		Description:       "log reader",
		DeliverSubject:    inbox,
		DeliverPolicy:     natsjs.DeliverByStartSequencePolicy,
		OptStartSeq:       t.next,
		AckPolicy:         natsjs.AckNonePolicy,
		FlowControl:       true,
		IdleHeartbeat:     heartbeat,
		InactiveThreshold: 10 * heartbeat,
		MemoryStorage:     true,
		Replicas:          1,
		Metadata:          metadata("reader", ""),
	})
	if err != nil {
		return fmt.Errorf("make consumer: %w", clientErr(err))
	}
	silence := time.NewTimer(3 * heartbeat)
	defer silence.Stop()
	for {
		select {
		case m := <-t.messages:
			if err := t.take(m); err != nil {
				return err
			}
			silence.Reset(3 * heartbeat)
		case <-silence.C:
			return errHeartbeat
		case <-t.status:
			return errReconnect // the consumer may have gone with the server
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *tail) drainStatus() {
	for {
		select {
		case <-t.status:
		default:
			return
		}
	}
}

// checkLog finds out whether next still belongs to the log that is there. A consumer that starts beyond the end would
// silently wait for that sequence to come again.
func (t *tail) checkLog(ctx context.Context) error {
	info, err := t.log.info(ctx)
	if err != nil {
		return err
	}
	if t.next == 1 {
		t.next = max(info.State.FirstSeq, 1) // nobody was promised what is gone
	}
	replaced := !t.created.IsZero() && !t.created.Equal(info.Created)
	if replaced || t.next > info.State.LastSeq+1 {
		first := max(info.State.FirstSeq, 1)
		t.log.stats.LogReplacements.Add(1)
		t.log.config.Logger.Error("the log was cut or made anew; reading it from its start",
			"next", t.next, "first", first, "last", info.State.LastSeq, "created", info.Created, "created_before", t.created)
		t.next = first
		t.log.lastAppended.Store(info.State.LastSeq)
	}
	t.created = info.Created
	return nil
}

// take hands over m and what is queued behind it.
func (t *tail) take(m *nats.Msg) error {
	for n := 1; ; n++ {
		if err := t.accept(m); err != nil {
			t.hand()
			return err
		}
		if len(t.batch) == cap(t.batch) || n == 2*maxTailBatch {
			break
		}
		select {
		case m = <-t.messages:
			continue
		default:
		}
		break
	}
	t.hand()
	return nil
}

// hand delivers the batch.
func (t *tail) hand() {
	if len(t.batch) > 0 {
		t.deliver(t.batch)
		clear(t.batch)
		t.batch = t.batch[:0]
	}
}

// accept adds a message to the batch, or obeys a control message.
func (t *tail) accept(m *nats.Msg) error {
	d, ok := parseDelivery(m.Reply)
	if !ok {
		return t.control(m)
	}
	if d.consumerSequence != t.consumerSequence+1 {
		return errGap
	}
	t.consumerSequence++
	if d.streamSequence < t.next {
		return nil // seen before
	}
	if trimmed := d.streamSequence - t.next; trimmed > 0 {
		t.log.stats.Trimmed.Add(trimmed)
	}
	t.next = d.streamSequence + 1
	e := sessions.Entry{Position: sessions.Position{Sequence: d.streamSequence, Time: d.time}}
	t.log.fill(&e, m.Subject, m.Header, m.Data)
	t.batch = append(t.batch, e)
	return nil
}

// control obeys flow control and checks by heartbeats that the last messages have arrived.
func (t *tail) control(m *nats.Msg) error {
	if m.Reply != "" { // flow control: what came before it is to be done with first
		t.hand()
		return clientErr(t.log.nc.Publish(m.Reply, nil))
	}
	if stalled, ok := headerValue(m.Header, "Nats-Consumer-Stalled"); ok {
		t.hand()
		if err := t.log.nc.Publish(stalled, nil); err != nil {
			return clientErr(err)
		}
	}
	if last, ok := headerValue(m.Header, "Nats-Last-Consumer"); ok {
		if sequence, err := strconv.ParseUint(last, 10, 64); err == nil && sequence > t.consumerSequence {
			return errGap
		}
	}
	if code := status(m); code != 100 {
		return fmt.Errorf("consumer answered %d %s", code, m.Header.Get("Description"))
	}
	return nil
}
