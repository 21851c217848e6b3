// Package actors is the running broker of one node: who exists, and who talks to whom.
//
//	listener ──► connection ─── Inbound ──► session ──── Append, SaveRecord, SaveJournal ──► storage
//	             (reader, actor) ◄─ Outbound ─ actor ◄─── results ────────────────────────────────┘
//	                                           ▲  │
//	                     Delivered, Routed     │  └─ Subscribe, Join, Leave, QoS 0 ──► router ◄── log tail
//	                                           └───────────────────────────────────────┘
//
// A connection is a goroutine that reads and decodes, and an actor that encodes and writes, on a TCP socket or the byte
// stream in a WebSocket. The reader finds out who the client is before it has a session. Topic aliases end there too: the
// reader resolves those of the client, the actor sets ours. The actor of a connection is run by its mailbox alone and is
// unknown to the actor runtime, which would take more memory for it than all else of an idle connection. A session is an actor around a sessions.Session, which decides
// everything; session_effects.go alone carries its effects out. The directory finds the session actor of a client
// identifier. The router owns the subscription tree, the retained messages and the end of the log, and hands the log out
// in its order.
//
// Goroutines, beside the few that run actors, each a few messages at a time (workers.go):
//
//	goroutine          started by        stopped by               blocks on                owns
//	accept             Start             Shutdown (listener)      Accept                   -
//	WebSocket server   Start             Shutdown (listener)      Accept                   -
//	WebSocket request  WebSocket server  its answer, or timeouts  its socket               -
//	closing handshake  connection        the client's, or 2 s     its socket               -
//	reader             listener, or the  end of its socket        Read, inbound bound      the buffer lent to it
//	                   one before it
//	log tail           Start             Shutdown (ctx)           the log                  order of hand-over, via router
//	retained watch     Start             Shutdown (ctx)           what others write        -
//	retained doubts    retainer          none left, Shutdown      storage                  one topic at a time, 16 together
//	timer wheel        Start             Shutdown                 its ticker               the timers
//	journal turns      Start             Shutdown                 its ticker, requests     the budget of lazy journal writes
//	catching up        Start             Shutdown (ctx)           orders, the log, pauses  windows of the log, portions of sessions
//	parking            Start             Shutdown (ctx)           rate limit, storage      durable queues of offline sessions
//	checkpoint         Start             Shutdown (ctx)           its ticker, storage      checkpoints of this and earlier boots
//	settling           Start             all settled, Shutdown    its ticker               sessions of boots that died
//	delayed: following Start             Shutdown (ctx)           the store                -
//	delayed: due       Start             Shutdown (ctx)           its timer, storage       what is due, and in the log already
//	share              its first         its last subscriber,     its queue, wake, ticks   what its queue has given it
//	                   subscriber        Shutdown (ctx)
//	other nodes        Start             Shutdown (ctx)           what they say            -
//	looking at nodes   Start             Shutdown (ctx)           its ticker, storage      who is alive, who leads
//	end of the log     SUBSCRIBE         nobody asks, Shutdown    the log                  those who ask together
//	drop report        Start             Shutdown (ctx)           its ticker               -
//	events             Start             Shutdown (ctx)           its queue, the network   the order of events
//	presence           Start, if kept    Shutdown (ctx)           room, the bucket         what is to be made good for
//	live plane         Start             Shutdown (ctx)           what others publish      -
//	live upkeep        Start             Shutdown (ctx)           its ticker               filters without use, late requests
//	storage work       session, parking  its answer, or 10 s      storage                  one call each, 64 at a time, and 8 of queues
//	AUTH step          session           connect timeout          the method               one exchange for that step
//
// Queues and their overflow policies:
//
//	inbound bound of a connection   1,024 messages or 1 MiB: its socket is not read
//	unsent bytes of a connection    1 MiB: QoS 0 is dropped (slow_consumer), QoS 1 and 2 stay in the log
//	hand-overs to a session         4,096 messages or 8 MiB: its live feed stops, QoS 0 is dropped
//	backlog of a live session       256 messages or 256 KiB: dropped from memory, it catches up from the log
//	end of the log in memory        64 MiB: the oldest go; who is behind reads the log or its durable queue
//	what was read for those behind  32 MiB: the oldest go, and are read again for whom they are missing
//	what replays have read          256 messages or 64 KiB each: they read on when that is sent; replay.max_active of them
//	portions of those behind        256 messages or 64 KiB each: the session comes again; 64 MiB together: one message each
//	messages a share has taken      256 or 4 MiB: nothing is taken while they wait for room
//	those for some members only     64 or 4 MiB: others are handed what is behind them up to there
//	queues of shares to be made     16 are made, looked through or removed at a time: the others wait for their turn
//	delayed messages                bounded by their store; those that are due 256 or 8 MiB at a time: the others wait
//	sessions that rest in memory    32,768: those that rested longest are read from storage when they are wanted
//	sessions waiting to be parked   sessions.max_parked_consumers: the one parked first goes without queue
//	actors that wait for a worker   as many as there are actors
//	CONNECTs of one client          50 a second after 500: refused (0x9F), before its session notices
//	CONNECTs of a session waiting   as many as connections: until the one before is heard out, 0.5 s at most
//	clients remembered for that     65,536: who connected longest ago is taken for new
//	clients being authenticated     64: the others wait for their turn within their connect timeout
//	retained writes, and doubts     one for each topic: the newest waits
//	events to be published          8,192: the newest are lost, and counted
//	drops to be told together       4,096 pairs of client and reason: those of other clients are told without a client
//	presence to be written          65,536 clients: that of others is made good for when there is room
//	filters listened to             as many as those of connected clients, and those of the last 2 s
//	requests of others              65,536 or 64 MiB, and 1,024 or 256 KiB of topics of a connection, for requests.timeout: the oldest cannot be answered any more
//	requests of clients             65,536 or 64 MiB, for requests.timeout: answers to the oldest are dropped
//	other nodes that are known      1,024: those that come then are left out
//	claims of other nodes           one for each session: an earlier one is turned down
//	what nodes that died left       identities above their checkpoint, until their sessions are settled
//	queues others may be removing   4,096 for 2 s: all are forgotten
//	SUBSCRIBEs asking for the end   one for each session: they share the next answer
//	lazy journal writes             5,000 a second for the node: they come later
//
// Locks: that of a directory shard is taken before the mailbox of the actor posted to; that of the router before those of
// the retainer, of the live plane and of mailboxes; that of all shares before that of one, and that before those of the live
// plane and of mailboxes. None is held while storage is waited for.
//
// Test it with memory stores and virtual time here, and from outside in test/.
package actors
