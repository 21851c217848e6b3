package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"dunlin/sessions"
)

// Store keeps session records in a KV bucket and journals in a stream, both one message per client identifier. A revision
// is the stream sequence of that message. Safe for concurrent use.
type Store struct {
	config    *Config
	publisher writer
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

// markerFlag is set in the revision of a deletion marker. Markers end themselves, so a write that expects one is content
// with nothing too; a session may hold such a revision for longer than the marker lasts.
const markerFlag = 1 << 63

// Load implements sessions.Store.
func (s *Store) Load(ctx context.Context, clientID string) (sessions.Stored, error) {
	stored := sessions.Stored{ClientID: clientID}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		stored.Record, stored.RecordRevision, err = loadDocument(ctx, s.records, s.recordSubject(clientID), clientID)
		return err
	})
	group.Go(func() (err error) {
		stored.Journal, stored.JournalRevision, err = loadDocument(ctx, s.journals, s.journalSubject(clientID), clientID)
		return err
	})
	if err := group.Wait(); err != nil {
		return sessions.Stored{}, fmt.Errorf("load session %q: %w", clientID, err)
	}
	if stored.Record == nil && stored.Journal != nil { // its session's deletion was cut short; see saveOverMarker
		stored.Journal, stored.JournalRevision = nil, 0
	}
	return stored, nil
}

// loadDocument reads a record or journal: nil and its revision when there is none. What somebody else put there is
// returned too: it is for the reader to find out, and to replace.
func loadDocument(ctx context.Context, r streamReader, subject, clientID string) ([]byte, uint64, error) {
	m, err := r.get(ctx, getRequest{LastFor: subject})
	switch {
	case errors.Is(err, sessions.ErrNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case m.deleted():
		return nil, m.sequence | markerFlag, nil
	}
	if id, ok := clientIDOf(m.header); ok && id != clientID && len(encodeToken(clientID)) > maxToken {
		return nil, 0, fmt.Errorf("%w: %w: %s", sessions.ErrRejected, errOtherClient, subject)
	}
	if m.data == nil {
		m.data = []byte{} // there, and empty
	}
	return m.data, m.sequence, nil
}

func clientIDOf(h nats.Header) (string, bool) {
	v, ok := headerValue(h, headerClientID)
	if !ok {
		return "", false
	}
	return unescape(v)
}

// SaveRecord implements sessions.Store.
func (s *Store) SaveRecord(clientID string, record []byte, expect uint64, urgency sessions.Urgency, to sessions.Sink, token uint64) {
	s.save(write{
		stream: s.records.stream, subject: s.recordSubject(clientID), header: documentHeader(clientID), data: record, urgency: urgency, to: to,
		token: token,
	}, expect)
}

// SaveJournal implements sessions.Store.
func (s *Store) SaveJournal(clientID string, journal []byte, expect uint64, urgency sessions.Urgency, to sessions.Sink, token uint64) {
	s.save(write{
		stream: s.journals.stream, subject: s.journalSubject(clientID), header: documentHeader(clientID), data: journal, urgency: urgency, to: to,
		token: token,
	}, expect)
}

// documentHeader is the header of a record or a journal: nil, or the name of the client if the subject does not tell it, as that
// of a long identifier.
func documentHeader(clientID string) nats.Header {
	token := EncodeToken(clientID)
	if token == clientID {
		return nil
	}
	if id, ok := decodeToken(nil, token, escapedInKey); ok && string(id) == clientID {
		return nil
	}
	return nats.Header{headerClientID: {escapeValue(clientID)}}
}

// clientOf is the client whose document has a header, and a subject which ends in a token.
func clientOf(h nats.Header, token string) (string, bool) {
	if clientID, ok := clientIDOf(h); ok && EncodeToken(clientID) == token {
		return clientID, true
	}
	id, ok := decodeToken(nil, token, escapedInKey)
	return string(id), ok && EncodeToken(string(id)) == token
}

// save replaces what has the revision expect. Nothing and a deletion marker are the same.
func (s *Store) save(w write, expect uint64) {
	switch {
	case expect == 0:
		s.saveOver(w, 0, func(w write) { go s.saveOverMarker(w) })
	case expect&markerFlag != 0: // it may have ended
		s.saveOver(w, expect&^markerFlag, func(w write) { s.save(w, 0) })
	default:
		s.publisher.publish(w.expecting(expect))
	}
}

// saveOverMarker replaces a deletion marker whose revision the caller does not know, or the journal that a session before
// has left behind: its deletion was cut short. Only the write that is in the way of such a one asks for it.
func (s *Store) saveOverMarker(w write) {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.AckTimeout)
	defer cancel()
	reader := s.records
	if w.stream == s.journals.stream {
		reader = s.journals
	}
	m, err := reader.get(ctx, getRequest{LastFor: w.subject})
	switch {
	case errors.Is(err, sessions.ErrNotFound): // it has ended meanwhile
		err = nil
	case err == nil && !m.deleted():
		err = s.checkLeftover(ctx, w, m)
	}
	if err != nil {
		w.to.Stored(sessions.Result{Token: w.token, Err: err})
		return
	}
	s.publisher.publish(w.expecting(m.sequence))
}

// checkLeftover is nil when what is there may be replaced by a write that does not know of it.
func (s *Store) checkLeftover(ctx context.Context, w write, there storedMessage) error {
	conflict := fmt.Errorf("%w: %s is there", sessions.ErrConflict, w.subject)
	clientID, ok := clientOf(w.header, strings.TrimPrefix(w.subject, s.config.Names.JournalSubjects+"."))
	if !ok || w.stream != s.journals.stream {
		return conflict
	}
	record, _, err := loadDocument(ctx, s.records, s.recordSubject(clientID), clientID)
	if err == nil && !sessions.LeftBehind(there.data, record, w.data) {
		err = conflict
	}
	return err
}

// saveOver replaces the message with a sequence. If that is not there, conflict is called with the write, instead of the sink.
func (s *Store) saveOver(w write, sequence uint64, conflict func(write)) {
	first := w.expecting(sequence)
	first.to = sinkFunc(func(r sessions.Result) {
		if errors.Is(r.Err, sessions.ErrConflict) {
			conflict(w)
			return
		}
		w.to.Stored(r)
	})
	s.publisher.publish(first)
}

// Delete implements sessions.Store. Record and journal become tombstones, which KV clients understand and which end
// themselves. The record goes first: a journal without a record belongs to no session.
func (s *Store) Delete(clientID string, expect uint64, to sessions.Sink, token uint64) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.config.AckTimeout)
		defer cancel()
		// What is to go is the journal of now: another owner may have written the next when the record is gone.
		_, journal, err := loadDocument(ctx, s.journals, s.journalSubject(clientID), clientID)
		if err != nil {
			to.Stored(sessions.Result{Token: token, Err: err})
			return
		}
		s.deleteRecord(clientID, expect, journal, to, token)
	}()
}

func (s *Store) deleteRecord(clientID string, expect, journal uint64, to sessions.Sink, token uint64) {
	s.save(write{
		stream: s.records.stream, subject: s.recordSubject(clientID), header: s.tombstone(clientID),
		to: sinkFunc(func(record sessions.Result) {
			result := sessions.Result{Token: token, Sequence: record.Sequence | markerFlag, JournalSequence: journal, Err: record.Err}
			if record.Err != nil || journal == 0 || journal&markerFlag != 0 {
				to.Stored(result)
				return
			}
			s.deleteJournal(clientID, journal, result, to)
		}),
	}, expect)
}

// deleteJournal ends what deleteRecord began, and reports its result.
func (s *Store) deleteJournal(clientID string, expect uint64, result sessions.Result, to sessions.Sink) {
	s.saveJournalMarker(clientID, expect, sinkFunc(func(journal sessions.Result) {
		result.JournalSequence, result.Err = journal.Sequence|markerFlag, journal.Err
		to.Stored(result)
	}))
}

func (s *Store) saveJournalMarker(clientID string, expect uint64, to sessions.Sink) {
	s.save(write{
		stream: s.journals.stream, subject: s.journalSubject(clientID), header: s.tombstone(clientID), to: to,
	}, expect)
}

func (s *Store) tombstone(clientID string) nats.Header {
	h := documentHeader(clientID)
	if h == nil {
		h = make(nats.Header, 2)
	}
	h[headerKVOperation] = []string{"PURGE"}
	h[headerTTL] = []string{ttl(s.config.TombstoneTTL)}
	return h
}

// ttl is a lifetime as the server reads it, rounded up to seconds.
func ttl(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Each implements sessions.Store. A record that is written meanwhile may be visited twice.
func (s *Store) Each(ctx context.Context, visit func(sessions.Stored)) error {
	prefix := "$KV." + s.config.Names.SessionBucket + "."
	return s.records.scan(ctx, prefix+">", 1, everything, func(m storedMessage) error {
		if m.deleted() {
			return nil
		}
		clientID, ok := clientOf(m.header, strings.TrimPrefix(m.subject, prefix))
		if !ok {
			s.stats.InvalidRecords.Add(1)
			s.config.Logger.Error("a session record is not ours or damaged; it is passed over", "subject", m.subject, "revision", m.sequence)
			return nil
		}
		visit(sessions.Stored{ClientID: clientID, Record: m.data, RecordRevision: m.sequence})
		return nil
	})
}
