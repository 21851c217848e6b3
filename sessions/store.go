package sessions

import (
	"context"
	"errors"
	"time"
)

// Errors of the storage interfaces. Implementations wrap them; callers compare with errors.Is.
var (
	// ErrNotFound: no such record, message or queue.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a write expected another revision, so somebody else has written: the session is not ours any more.
	ErrConflict = errors.New("revision conflict")
	// ErrRejected: storage refuses this write for good (full, too large, not allowed). Trying again does not help.
	ErrRejected = errors.New("rejected by storage")
	// ErrUnavailable: storage did not answer. The outcome of a write is unknown: it may be stored, or be stored later.
	ErrUnavailable = errors.New("storage unavailable")
)

// Result is the outcome of one asynchronous write.
type Result struct {
	// Token is what the caller passed with the write.
	Token uint64
	// Sequence is the log sequence, or the revision, of the write when Err is nil.
	Sequence uint64
	// JournalSequence is the revision of the journal's deletion marker; only Delete sets it.
	JournalSequence uint64
	// Duplicate: the log already held a message of this ID; Sequence is that message's. It counts as stored.
	Duplicate bool
	// Err is nil, or wraps ErrConflict, ErrRejected or ErrUnavailable.
	Err error
}

// Sink takes the results of asynchronous writes. Stored is called from the storage's own goroutines and must not block.
type Sink interface {
	Stored(Result)
}

// Log is the totally ordered, durable sequence of messages at QoS 1 and 2, and of retained messages.
// All methods are safe for concurrent use.
type Log interface {
	// Append stores a message. It keeps the order of calls of one goroutine, and sends the result, once, to the sink.
	// It may wait briefly for the connection to the storage, never for an answer. m.PublishedAt is not stored: who
	// reads the message has the time of the log's own clock. An id that is not empty is stored once, however often it is
	// appended within the duplicate window.
	Append(m *Message, id string, to Sink, token uint64)
	// LastAppended is the highest sequence that an Append of this node was answered with.
	LastAppended() uint64
	// Last is the position of the last message in the log now.
	Last(ctx context.Context) (Position, error)
	// First is the sequence of the oldest message still in the log.
	First(ctx context.Context) (uint64, error)
	// Before is the position before the first message that was stored at or after a time.
	Before(ctx context.Context, t time.Time) (Position, error)
	// Tail hands all entries after a sequence to deliver, in order, in batches, until ctx ends; then it returns nil.
	// It survives a loss of the storage connection without gap or repeat. deliver owns the batch until it returns,
	// the entries for good; what this node has appended may be the very message. Gaps (trimmed messages) are passed over
	// and counted.
	Tail(ctx context.Context, after uint64, deliver func(batch []Entry)) error
	// Scan hands the entries in (after, upTo] to visit, in order, and returns.
	Scan(ctx context.Context, after, upTo uint64, visit func(Entry)) error
	// Reader begins to read the log behind a sequence. Nothing happens before the first Next.
	Reader(after uint64) LogReader
	// Load reads single messages by sequence. Messages that are gone are left out of the result.
	Load(ctx context.Context, sequences []uint64) ([]Entry, error)
	// Resolve checks that a position still means what it meant: the log may have been cut, restored or made anew.
	// If not it returns the position found by time, and moved = true.
	Resolve(ctx context.Context, p Position) (now Position, moved bool, err error)
}

// LogReader reads the log in order, a window at a time. One goroutine at a time may use it.
type LogReader interface {
	// Next returns the next entries, at most max; gaps (trimmed messages) are passed over. None and no error proves that no
	// entry up to the end of the log, as it was when Next was called, is left. After an error the next call goes on at the
	// same place.
	Next(ctx context.Context, max int) ([]Entry, error)
	// Close lets go of it, and waits for nothing.
	Close()
}

// Stored is what storage holds for one client identifier.
type Stored struct {
	ClientID string
	// Record is nil when there is no session; RecordRevision may then still be that of a deletion marker.
	Record         []byte
	RecordRevision uint64
	// Journal is nil when nothing was journaled yet.
	Journal         []byte
	JournalRevision uint64
}

// Urgency is how soon a write has to be stored.
type Urgency uint8

const (
	// AtOnce: somebody waits for it.
	AtOnce Urgency = iota
	// Soon: nobody does, so it may wait a few milliseconds for others to go with it.
	Soon
)

// Store keeps session records and journals. The record and the journal are the truth about a session; both are
// written whole, each write naming the revision it replaces. All methods are safe for concurrent use.
type Store interface {
	// Load reads a session as its leader has it. It returns a Stored without record when there is none, and no error.
	Load(ctx context.Context, clientID string) (Stored, error)
	// SaveRecord replaces the record if its revision is still expect (0: there is none).
	SaveRecord(clientID string, record []byte, expect uint64, urgency Urgency, to Sink, token uint64)
	// SaveJournal replaces the journal if its revision is still expect. One that an earlier session has left behind, as
	// LeftBehind tells, counts as none.
	SaveJournal(clientID string, journal []byte, expect uint64, urgency Urgency, to Sink, token uint64)
	// Delete removes record and then journal, if the record's revision is still expect.
	Delete(clientID string, expect uint64, to Sink, token uint64)
	// Each visits every stored record (Journal is not filled in). Records whose client identifier cannot be told are passed over and counted.
	Each(ctx context.Context, visit func(Stored)) error
	// SaveCheckpoint stores the checkpoint of this node boot; Checkpoints reads those of all boots; DeleteCheckpoint removes one.
	SaveCheckpoint(ctx context.Context, c Checkpoint) error
	Checkpoints(ctx context.Context) ([]Checkpoint, error)
	DeleteCheckpoint(ctx context.Context, boot string) error
}

// Checkpoint says that at Time the node boot was alive and the journals of all its live sessions, and the retained
// bucket, were complete up to Position.
type Checkpoint struct {
	Boot string `json:"boot"`
	// Node is the name of the node, Since when this boot of it began, by its own clock.
	Node     string    `json:"node,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Time     time.Time `json:"time"`
	Position Position  `json:"position"`
	// Clients is how many were connected. Draining: they are being sent to other nodes.
	Clients  int  `json:"clients,omitempty"`
	Draining bool `json:"draining,omitempty"`
	// Released: these are its last words, and the documents of all its sessions are as they were left.
	Released bool `json:"released,omitempty"`
}

// Queues are the durable consumers, one for each parked or catching-up session: a view of the log that plain NATS
// can see too. A queue holds nothing that the log, the record and the journal do not hold.
type Queues interface {
	// Open makes the queue of a session, or finds it, with these topic filters, positioned right after a sequence.
	// Filters may overlap; the queue may hold messages that none of them matches, which the caller passes over.
	Open(ctx context.Context, clientID string, filters []string, after uint64) (Queue, error)
	// Remove deletes the queue of a session; it is no error when there is none.
	Remove(ctx context.Context, clientID string) error
}

// Queue is one session's queue, opened. One goroutine at a time may use it.
type Queue interface {
	// Fetch takes the next messages, at most max. None and no error proves that no message up to the end of the
	// log, as it was when Fetch was called, is left.
	Fetch(ctx context.Context, max int) ([]Entry, error)
	// Count looks at all messages that wait now and returns how many counts holds for. They wait as before.
	Count(ctx context.Context, counts func(Entry) bool) (uint64, error)
}

// RetainedStore is the durable copy of the retained messages, by topic. Others may write to it too: what they put there is what
// new subscribers get, though it is not in the log.
type RetainedStore interface {
	// Put stores e's message as the retained message of its topic; an empty payload removes it. [MQTT-3.3.1-6] It does so
	// while the last write for the topic is that of revision expect (0: there is none), else the result is ErrConflict. The
	// result's Sequence is the new revision. Writes for one topic must not overlap.
	Put(e Entry, expect uint64, to Sink, token uint64)
	// Load reads the last write for a topic; its Revision is 0 when there is none.
	Load(ctx context.Context, topic string) (Retained, error)
	// Each visits all retained messages, and what others have removed as far as that is known. What is written after the
	// revision that it returns may be among them.
	Each(ctx context.Context, visit func(Retained)) (revision uint64, err error)
	// Watch hands what others write after a revision to changed, in order, until ctx ends; then it returns nil. It survives a
	// loss of the storage connection. Of several writes for one topic it may leave out all but the last, and it may bring one
	// again.
	Watch(ctx context.Context, after uint64, changed func(Retained)) error
}

// Retained is the last write to a RetainedStore for a topic.
type Retained struct {
	// Entry is the entry of the log that was written, its message with an empty payload when that removes the one before.
	// What did not come through the log has Sequence 0, and as Time that at which the store took it. Message is nil when what
	// was written has ended with its expiry interval.
	Entry
	// Revision is the number of the write: the later, the higher.
	Revision uint64
}

// Foreign reports whether somebody wrote it to the store who is no node.
func (r *Retained) Foreign() bool { return r.Message != nil && r.Sequence == 0 }

// SharedQueues are the durable consumers of shared subscriptions, one for each pair of share name and topic filter: a place
// in the log that all members move together, and the messages that were taken and are not settled. (4.8.2) A queue is known
// by its filter as subscribed, "$share/{ShareName}/{filter}". All methods are safe for concurrent use.
type SharedQueues interface {
	// Open makes a queue at the end of the log, or finds it as it was left. When it returns, every message that is appended
	// from now on is in the queue.
	Open(ctx context.Context, share string) (SharedQueue, error)
	// Remove deletes a queue with all it holds; it is no error when there is none.
	Remove(ctx context.Context, share string) error
	// Each visits the filters of all queues.
	Each(ctx context.Context, visit func(share string)) error
}

// SharedQueue is one shared subscription's queue, opened. Safe for concurrent use, but for Take, which one goroutine uses.
// What Settle, Return and Renew say takes effect behind: a crash, or a loss of the storage connection, in between brings
// messages again. They never wait for an answer, and pass over sequences that are not taken.
type SharedQueue interface {
	// Take waits a while for the next messages, at most max of about maxBytes together: those returned first, in log order,
	// then what nobody has taken yet, as long as fewer than MaxTaken are. None and no error: there was none. ErrNotFound:
	// the queue was removed. It may bring a message that was not renewed in time while its holder still has it, and
	// messages that the filter does not match.
	Take(ctx context.Context, max, maxBytes int) ([]Entry, error)
	// Settle ends messages: they are not taken again.
	Settle(sequences ...uint64)
	// Return gives messages back, to be taken again before all others.
	Return(sequences ...uint64)
	// Renew keeps messages from being taken again for RenewWithin.
	Renew(sequences ...uint64)
	// Reclaim returns all that was taken and not settled, but for what keep says: its holders died. It is called before the
	// first Take, and has taken effect when it returns.
	Reclaim(ctx context.Context, keep func(sequence uint64) bool) error
}

// RenewWithin is how long a message that was taken from a SharedQueue stays away if it is not renewed.
const RenewWithin = 30 * time.Second

// MaxTaken is how many messages of one SharedQueue may be taken and not settled.
const MaxTaken = 65_536
