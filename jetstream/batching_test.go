package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// batchFixture is a publisher that sends batches to a stream whose answers are given by hand.
type batchFixture struct {
	*handStream
	t      *testing.T
	nc     *nats.Conn
	p      *publisher
	stats  *Stats
	sink   resultChan
	stored chan settled
}

// newBatchFixture has stored message 1 at sequence 1, and message 2 is on its way: what comes now is gathered.
func newBatchFixture(t *testing.T) (f *batchFixture, second *nats.Msg) {
	t.Helper()
	e, nc := startServer(t)
	f = &batchFixture{
		handStream: newHandStream(t, e), t: t, nc: nc, stats: new(Stats), sink: make(resultChan, 1000), stored: make(chan settled, 1000),
	}
	c := DefaultConfig()
	c.AckTimeout = time.Hour
	var err error
	f.p, err = newPublisher(nc, &c, f.stats, func(done []settled) {
		for _, s := range done {
			f.stored <- s
		}
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.p.close)
	f.publish(1)
	f.ack(f.next(), 1)
	f.expect(1, 1)
	f.publish(2)
	return f, f.next()
}

func (f *batchFixture) publish(numbers ...int) {
	for _, i := range numbers {
		w := handWrite(i, f.sink)
		w.message = &sessions.Message{QoS: 1}
		f.p.publish(w)
	}
}

// expect makes sure that a message was reported as stored at a sequence.
func (f *batchFixture) expect(number, sequence int) settled {
	f.t.Helper()
	if r := f.sink.next(f.t); r.Token != uint64(number) || r.Sequence != uint64(sequence) || r.Err != nil {
		f.t.Fatalf("result %+v, not of message %d at %d", r, number, sequence)
	}
	return <-f.stored
}

// batch takes the messages of a batch that carry the numbers.
func (f *batchFixture) batch(numbers ...int) (messages []*nats.Msg) {
	f.t.Helper()
	id := ""
	for i, number := range numbers {
		m := f.next()
		operation := "1"
		switch i {
		case 0:
			operation = "0"
			id, _, _ = strings.Cut(m.Reply, ".65535.")
		case len(numbers) - 1:
			operation = "2"
		}
		want := fmt.Sprintf("%s.65535.fail.%d.%s.$FI", id, i+1, operation)
		if string(m.Data) != fmt.Sprint(number) || m.Reply != want || len(m.Header) > 0 {
			f.t.Fatalf("message %q with reply %s and header %v, not %d with reply %s", m.Data, m.Reply, m.Header, number, want)
		}
		messages = append(messages, m)
	}
	return messages
}

// single takes a message that goes alone.
func (f *batchFixture) single(number int) *nats.Msg {
	f.t.Helper()
	m := f.next()
	if string(m.Data) != fmt.Sprint(number) || strings.HasSuffix(m.Reply, ".$FI") {
		f.t.Fatalf("message %q with reply %s, not %d alone", m.Data, m.Reply, number)
	}
	return m
}

const committed = `{"stream":"HAND","seq":%d,"batch":"B","count":%d}`

func TestMessagesThatComeWhileOthersAreStoredGoTogether(t *testing.T) {
	f, second := newBatchFixture(t)
	f.publish(3, 4, 5, 6)
	retained := handWrite(7, f.sink)
	retained.message = &sessions.Message{QoS: 1, Retain: true}
	f.p.publish(retained)
	f.publish(8)
	f.none(f.nc)
	f.ack(second, 2)
	f.expect(2, 2)
	batch, alone := f.batch(3, 4, 5, 6), f.single(7) // it must tell its own place
	f.none(f.nc)
	f.answer(batch[0], `{"type":"ack","seq":0,"msgs":128}`)
	f.answer(batch[3], fmt.Sprintf(committed, 6, 4))
	for number := 3; number <= 6; number++ {
		if s := f.expect(number, number); s.entry.Sequence != uint64(number) || s.unplaced {
			t.Errorf("message %d was told of as %+v", number, s)
		}
	}
	f.none(f.nc)
	f.ack(alone, 7)
	f.expect(7, 7)
	f.publish(9, 10) // too few
	f.ack(f.single(8), 8)
	f.expect(8, 8)
	f.ack(f.single(9), 9)
	f.ack(f.single(10), 10)
	f.expect(9, 9)
	f.expect(10, 10)
	f.publish(11, 12, 13, 14, 15)
	f.ack(f.single(11), 11)
	f.expect(11, 11)
	again := f.batch(12, 13, 14, 15)
	if again[0].Reply != batch[0].Reply {
		t.Errorf("the name %s was not used again, but %s", batch[0].Reply, again[0].Reply)
	}
}

func TestFullBatchesDoNotWait(t *testing.T) {
	f, second := newBatchFixture(t)
	numbers := make([]int, 2*maxGathered)
	for i := range numbers {
		numbers[i] = 3 + i
	}
	f.publish(numbers[:maxGathered-1]...)
	f.none(f.nc)
	f.publish(numbers[maxGathered-1:]...)
	first, then := f.batch(numbers[:maxGathered]...), f.batch(numbers[maxGathered:]...)
	f.ack(second, 2)
	f.expect(2, 2)
	f.answer(first[maxGathered-1], fmt.Sprintf(committed, 2+maxGathered, maxGathered))
	f.answer(then[maxGathered-1], fmt.Sprintf(committed, 2+2*maxGathered, maxGathered))
	for _, number := range numbers {
		f.expect(number, number)
	}
}

func TestBatchAmongMessagesOfOthers(t *testing.T) {
	f, second := newBatchFixture(t)
	f.publish(3, 4, 5, 6)
	f.ack(second, 2)
	f.expect(2, 2)
	batch := f.batch(3, 4, 5, 6)
	f.publish(7, 8, 9, 10)
	f.answer(batch[3], fmt.Sprintf(committed, 9, 4))
	for number := 3; number <= 6; number++ {
		s := f.expect(number, 9) // not after that
		if last := number == 6; s.unplaced == last || last && s.entry.Sequence != 9 {
			t.Errorf("message %d was told of as %+v", number, s)
		}
	}
	for number := 7; number <= 10; number++ { // for a while each tells its own place
		f.ack(f.single(number), number+3)
		f.expect(number, number+3)
	}
}

func TestBatchThatIsNotStoredAsAWhole(t *testing.T) {
	type answer struct {
		to   int
		text string
	}
	full := `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"HAND","seq":0}`
	unknown := `{"error":{"code":400,"err_code":10206,"description":"batch publish ID unknown"},"stream":"HAND","seq":0}`
	for name, answers := range map[string][]answer{
		"gap":                    {{1, `{"type":"gap","last_seq":2,"seq":3}`}, {1, fmt.Sprintf(committed, 3, 1)}, {2, unknown}, {3, unknown}},
		"cut":                    {{1, fmt.Sprintf(committed, 3, 1)}, {2, unknown}, {3, unknown}},
		"first refused":          {{0, full}, {1, unknown}, {2, unknown}, {3, unknown}},
		"last refused":           {{3, full}},
		"one refused, then done": {{1, `{"type":"err","seq":2,"error":{"code":400,"err_code":10054}}`}, {3, fmt.Sprintf(committed, 6, 4)}},
		"one missing":            {{3, fmt.Sprintf(committed, 5, 4)}},
		"another log":            {{3, fmt.Sprintf(committed, 4, 4)}},
	} {
		t.Run(name, func(t *testing.T) {
			f, second := newBatchFixture(t)
			f.publish(3, 4, 5, 6)
			f.ack(second, 2)
			f.expect(2, 2)
			batch := f.batch(3, 4, 5, 6)
			for _, a := range answers {
				f.answer(batch[a.to], a.text)
			}
			for number := 3; number <= 6; number++ {
				if r := f.sink.next(t); r.Token != uint64(number) || !errors.Is(r.Err, sessions.ErrUnavailable) {
					t.Fatalf("result %+v of message %d", r, number)
				}
				if s := <-f.stored; s.entry.Message != nil || s.unplaced {
					t.Errorf("message %d was told of as %+v", number, s)
				}
			}
			if n := f.stats.RefusedBatches.Load(); n != 1 {
				t.Errorf("%d batches were refused", n)
			}
			f.publish(3, 4, 5, 6)
			var again []*nats.Msg
			for number := 3; number <= 6; number++ {
				again = append(again, f.single(number))
			}
			f.answer(batch[3], fmt.Sprintf(committed, 100, 4)) // late
			for i, m := range again {
				f.ack(m, 10+i)
				f.expect(3+i, 10+i)
			}
		})
	}
}

func TestBatchesWaitUntilTheLogIsKnown(t *testing.T) {
	f, second := newBatchFixture(t)
	f.publish(3, 4, 5, 6)
	f.answer(second, `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"HAND","seq":0}`)
	if r := f.sink.next(t); r.Token != 2 || !errors.Is(r.Err, sessions.ErrRejected) {
		t.Fatalf("result %+v", r)
	}
	for number := 3; number <= 6; number++ {
		f.single(number)
	}
}

// A log of an earlier release is made to take batches; one that is not ours is left as it is, and takes each message alone.
func TestWhichLogsTakeBatches(t *testing.T) {
	for _, c := range []struct {
		name       string
		ours       bool
		durability Durability
		want       bool
	}{{"ours", true, Process, true}, {"ours with fsync", true, Fsync, false}, {"not ours", false, Process, false}} {
		t.Run(c.name, func(t *testing.T) {
			_, nc := startServer(t)
			config := DefaultConfig()
			config.Durability = c.durability
			earlier := topology(&config)[0]
			earlier.AllowBatchPublish = false
			if !c.ours {
				earlier.Metadata = nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			js, err := natsjs.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.CreateStream(ctx, earlier); err != nil {
				t.Fatal(err)
			}
			s, err := Open(ctx, nc, config)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if takes, _, err := s.log.takesBatches(ctx); err != nil || takes != c.want {
				t.Errorf("the log takes batches: %v, %v", takes, err)
			}
		})
	}
}
