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

// tailBuffer is how many messages may wait for the reader; what comes beyond is dropped and read again.
// The server's flow control lets 32 MiB be under way, which is that many small messages.
const tailBuffer = 256 << 10

var (
	errGap       = errors.New("messages are missing")
	errHeartbeat = errors.New("heartbeats are missing")
)

// read makes a consumer at next and hands over what it brings, until something is wrong with it, or so little of it is
// foreign that it does not pay: errOwn.
func (t *tail) read(ctx context.Context) error {
	drainStatus(t.status)
	if _, err := t.checkLog(ctx); err != nil {
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
	weigh := time.NewTicker(weighEvery)
	defer weigh.Stop()
	t.weight = t.newWeight()
	for {
		select {
		case <-weigh.C:
			if t.weight.own(t) {
				return errOwn
			}
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
	t.weight.handed++
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
