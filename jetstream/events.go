package jetstream

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// eventSubjects begin the subjects of events.
const eventSubjects = controlSubjects + ".event."

// Events publishes events on core NATS, each kind on a subject of its own: whoever listens gets them, and nothing is kept. What
// clients have said is in the JSON alone, never in a subject. Safe for concurrent use.
type Events struct {
	nc       *nats.Conn
	interest func(subject string) bool
	subjects map[sessions.EventKind]string
}

var _ sessions.Events = (*Events)(nil)

// NewEvents publishes events over a connection. interest reports, at once, whether anybody may listen to a subject; nil: that is
// not known, so all events are wanted.
func NewEvents(nc *nats.Conn, interest func(subject string) bool) *Events {
	e := &Events{nc: nc, interest: interest, subjects: map[sessions.EventKind]string{}}
	for _, kind := range sessions.EventKinds {
		e.subjects[kind] = eventSubjects + string(kind)
	}
	return e
}

// Wanted implements sessions.Events.
func (e *Events) Wanted(kind sessions.EventKind) bool {
	return e.interest == nil || e.interest(e.subjects[kind])
}

// Publish implements sessions.Events.
func (e *Events) Publish(event *sessions.Event) error {
	data, err := json.Marshal(event)
	if err != nil {
		panic(fmt.Sprintf("event does not encode: %v", err)) // Invariant: it holds nothing that JSON cannot.
	}
	return clientErr(e.nc.Publish(e.subjects[event.Kind], data))
}

// flushTimeout is how long Close waits for the server.
const flushTimeout = time.Second

// Close returns when the server has taken what was published.
func (e *Events) Close() error { return clientErr(e.nc.FlushTimeout(flushTimeout)) }
