package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"dunlin/sessions"
)

// Store keeps session records in a KV bucket and journals in a stream, both one message per client identifier. A revision
// is the stream sequence of that message. Safe for concurrent use.
type Store struct {
	config    *Config
	js        natsjs.JetStream
	publisher *publisher
	records   streamReader
	journals  streamReader
	stats     *Stats
}

var _ sessions.Store = (*Store)(nil)

func (s *Store) recordSubject(clientID string) string {
	return "$KV." + s.config.Names.SessionBucket + "." + EncodeToken(clientID)
}

func (s *Store) journalSubject(clientID string) string {
	return s.config.Names.JournalSubjects + "." + EncodeToken(clientID)
}

// errOtherClient: two client identifiers share a hashed token.
var errOtherClient = errors.New("stored for another client identifier")

// Load implements sessions.Store.
func (s *Store) Load(ctx context.Context, clientID string) (sessions.Stored, error) {
	stored := sessions.Stored{ClientID: clientID}
	group, ctx := errgroup.WithContext(ctx)
	load := func(r streamReader, subject string, data *[]byte, revision *uint64) func() error {
		return func() error {
			m, err := r.get(ctx, getRequest{LastFor: subject})
			if errors.Is(err, sessions.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			*revision = m.sequence
			if m.deleted() {
				return nil
			}
			if id, ok := clientIDOf(m.header); !ok || id != clientID {
				return fmt.Errorf("%w: %w: %s", sessions.ErrRejected, errOtherClient, subject)
			}
			*data = m.data
			return nil
		}
	}
	group.Go(load(s.records, s.recordSubject(clientID), &stored.Record, &stored.RecordRevision))
	group.Go(load(s.journals, s.journalSubject(clientID), &stored.Journal, &stored.JournalRevision))
	if err := group.Wait(); err != nil {
		return sessions.Stored{}, fmt.Errorf("load session %q: %w", clientID, err)
	}
	return stored, nil
}

func clientIDOf(h nats.Header) (string, bool) {
	v, ok := headerValue(h, headerClientID)
	if !ok {
		return "", false
	}
	return unescape(v)
}

// casHeader is the header of a write that expects a revision.
func casHeader(clientID string, expect uint64) nats.Header {
	return nats.Header{
		headerClientID:        {escapeValue(clientID)},
		headerExpectedSubject: {strconv.FormatUint(expect, 10)},
	}
}

// SaveRecord implements sessions.Store.
func (s *Store) SaveRecord(clientID string, record []byte, expect uint64, to sessions.Sink, token uint64) {
	s.publisher.publish(write{
		stream: bucketStream(s.config.Names.SessionBucket), subject: s.recordSubject(clientID),
		header: casHeader(clientID, expect), data: record, to: to, token: token,
	})
}

// SaveJournal implements sessions.Store.
func (s *Store) SaveJournal(clientID string, journal []byte, expect uint64, to sessions.Sink, token uint64) {
	s.publisher.publish(write{
		stream: s.config.Names.JournalStream, subject: s.journalSubject(clientID),
		header: casHeader(clientID, expect), data: journal, to: to, token: token,
	})
}

// Delete implements sessions.Store. Both become tombstones, which KV clients understand, and which end themselves. The
// sink is told when both are stored: a journal without record belongs to no session, so a failure between the two is
// a failure to delete the rest only.
func (s *Store) Delete(clientID string, expect uint64, to sessions.Sink, token uint64) {
	header := s.tombstone(clientID)
	header[headerExpectedSubject] = []string{strconv.FormatUint(expect, 10)}
	s.publisher.publish(write{
		stream: bucketStream(s.config.Names.SessionBucket), subject: s.recordSubject(clientID), header: header,
		to: sinkFunc(func(record sessions.Result) {
			if record.Err != nil {
				record.Token = token
				to.Stored(record)
				return
			}
			s.publisher.publish(write{
				stream: s.config.Names.JournalStream, subject: s.journalSubject(clientID), header: s.tombstone(clientID),
				to: sinkFunc(func(journal sessions.Result) {
					to.Stored(sessions.Result{Token: token, Sequence: record.Sequence, Err: journal.Err})
				}),
			})
		}),
	})
}

func (s *Store) tombstone(clientID string) nats.Header {
	return nats.Header{
		headerClientID:    {escapeValue(clientID)},
		headerKVOperation: {"PURGE"},
		headerTTL:         {ttl(s.config.TombstoneTTL)},
	}
}

// ttl is a lifetime as the server reads it, rounded up to seconds.
func ttl(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Each implements sessions.Store. A record that is written meanwhile may be visited twice.
func (s *Store) Each(ctx context.Context, visit func(sessions.Stored)) error {
	return s.records.scan(ctx, "$KV."+s.config.Names.SessionBucket+".>", 1, everything, func(m storedMessage) error {
		if m.deleted() {
			return nil
		}
		clientID, ok := clientIDOf(m.header)
		if !ok || s.recordSubject(clientID) != m.subject {
			s.stats.InvalidRecords.Add(1)
			s.config.Logger.Error("a session record is not ours or damaged; it is passed over", "subject", m.subject, "revision", m.sequence)
			return nil
		}
		visit(sessions.Stored{ClientID: clientID, Record: m.data, RecordRevision: m.sequence})
		return nil
	})
}
