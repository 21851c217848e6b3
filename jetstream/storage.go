package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Storage is everything that is kept in JetStream, ready for use.
type Storage struct {
	log      *Log
	store    *Store
	queues   *Queues
	shared   *SharedQueues
	retained *RetainedStore
	delayed  *Delayed
	stats    *Stats
	presence *PresenceStore // nil when it is not kept
	// messages writes to the log, state to everything else.
	messages, state writer
	inboxes         *inboxes
}

// Open makes or checks the streams and buckets and opens them over a connection, which it does not own. The connection
// should not buffer while it is reconnecting (Connect makes such): a write that is sent late would be reported as lost.
func Open(ctx context.Context, nc *nats.Conn, c Config) (*Storage, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	if err := EnsureTopology(ctx, nc, c); err != nil {
		return nil, err
	}
	js, err := c.client(nc)
	if err != nil {
		return nil, clientErr(err)
	}
	stats := new(Stats)
	messages := &availability{of: "messages", logger: c.Logger}
	documents := &availability{of: "session state", logger: c.Logger}
	in := newInboxes(nc, c.AckTimeout)
	reader := func(stream string) streamReader {
		return streamReader{inboxes: in, stream: stream, api: c.api(), clustered: nc.ConnectedClusterName() != ""}
	}
	log := &Log{config: &c, nc: nc, js: js, inboxes: in, reader: reader(c.Names.Stream), stats: stats, prefix: c.Names.Subjects + ".", mapping: c.Mapping, own: newOwnEntries(), subjects: newSubjectCache(c.Mapping, c.Names.Subjects+".")}
	batches, replicated, err := log.takesBatches(ctx)
	if err == nil {
		log.publisher, err = newWriter(nc, &c, stats, func(done []settled) {
			messages.observe(done)
			log.appended(done)
		}, batches, replicated)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	state, err := newWriter(nc, &c, stats, documents.observe, false, false)
	if err != nil {
		log.publisher.close()
		in.close()
		return nil, err
	}
	state = newConfirmingWriter(state, &c, reader)
	var presence *PresenceStore
	if c.Presence.Enabled {
		presence = &PresenceStore{config: &c, publisher: state, reader: reader(bucketStream(c.Names.PresenceBucket)), stats: stats}
	}
	return &Storage{
		presence: presence,
		log:      log,
		store: &Store{
			config: &c, publisher: state, stats: stats,
			records: reader(bucketStream(c.Names.SessionBucket)), journals: reader(c.Names.JournalStream),
		},
		queues:   &Queues{config: &c, js: js, log: log},
		shared:   &SharedQueues{config: &c, js: js, log: log},
		retained: &RetainedStore{config: &c, nc: nc, js: js, publisher: state, reader: reader(bucketStream(c.Names.RetainedBucket)), stats: stats},
		delayed:  &Delayed{config: &c, js: js, publisher: state, reader: reader(c.Names.DelayedStream), clock: &log.clock, stats: stats},
		stats:    stats,
		messages: log.publisher,
		state:    state,
		inboxes:  in,
	}, nil
}

// Log is the log of messages.
func (s *Storage) Log() *Log { return s.log }

// Store keeps session records, journals and checkpoints.
func (s *Storage) Store() *Store { return s.store }

// Queues are the sessions' durable consumers.
func (s *Storage) Queues() *Queues { return s.queues }

// Shared are the durable consumers of shared subscriptions.
func (s *Storage) Shared() *SharedQueues { return s.shared }

// Retained keeps the retained messages.
func (s *Storage) Retained() *RetainedStore { return s.retained }

// Presence keeps the presence of clients, nil when it is not kept.
func (s *Storage) Presence() *PresenceStore { return s.presence }

// Delayed keeps delayed messages; there are none without Config.MaxDelayed.
func (s *Storage) Delayed() *Delayed { return s.delayed }

// Stats count what storage passed over.
func (s *Storage) Stats() *Stats { return s.stats }

// Close fails the writes that are unanswered and returns when all sinks were told. End every Tail and Take before.
func (s *Storage) Close() {
	s.messages.close()
	s.state.close()
	s.inboxes.close()
}
