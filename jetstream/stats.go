package jetstream

import (
	"math/bits"
	"sync/atomic"
)

// Stats count what storage passed over. Safe for concurrent use.
type Stats struct {
	// Undecodable entries of the log: their subject is no topic.
	Undecodable atomic.Uint64
	// Trimmed sequences: the reader found them gone from the log.
	Trimmed atomic.Uint64
	// InvalidHeaders of messages, whose value made no sense.
	InvalidHeaders atomic.Uint64
	// InvalidRecords of sessions: the client identifier could not be told. Checkpoints that are none, too.
	InvalidRecords atomic.Uint64
	// InvalidRetained messages in the bucket: key or header made no sense.
	InvalidRetained atomic.Uint64
	// InvalidPresence of clients in the bucket: key or value made no sense.
	InvalidPresence atomic.Uint64
	// ForeignReplies that arrived at a publisher and were no PubAck of ours.
	ForeignReplies atomic.Uint64
	// AckTimeouts and ConnectionLosses: writes whose outcome stayed unknown.
	AckTimeouts, ConnectionLosses atomic.Uint64
	// RefusedBatches were not stored, or not as a whole; their messages are sent again in smaller ones or alone.
	RefusedBatches atomic.Uint64
	// ReaderRestarts of the log reader: gap, missed heartbeats or a new connection.
	ReaderRestarts atomic.Uint64
	// LogReplacements: the log was found cut or made anew.
	LogReplacements atomic.Uint64
	// QueueResets: a session's queue had lost its place and was put back to it.
	QueueResets atomic.Uint64
	// UnsentSettlements of messages from shared queues: the connection was lost, so the messages come again.
	UnsentSettlements atomic.Uint64
	// LiveUndecodable messages of others on the live plane: their subject is no topic, or one of the server's own.
	LiveUndecodable atomic.Uint64
	// LiveOverrun are messages of others on the live plane, and answers, that came faster than they could be handed over.
	LiveOverrun atomic.Uint64
	// LiveUnsent are messages and answers for others on the live plane that were not published: the topic is too long, or the
	// connection away or slow.
	LiveUnsent atomic.Uint64
	// ControlUnsent are messages to other nodes that were not sent, since the connection was away.
	ControlUnsent atomic.Uint64
	// ForeignControl messages on the subjects of nodes, which are not from nodes.
	ForeignControl atomic.Uint64
}

// telling reports whether the last of n, of which some were added now, is logged: the first, the second, the fourth and so
// on, since anybody may write as much nonsense into a stream as it holds.
func telling(n, added uint64) bool { return bits.Len64(n) != bits.Len64(n-added) }
