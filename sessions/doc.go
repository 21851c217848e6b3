// Package sessions is the MQTT session protocol as a pure state machine: no I/O, no goroutine, no lock, no clock.
//
// A Session is advanced by inputs and answers with effects, which its driver (a session actor) carries out in order:
//
//	effects = s.Step(now, input, effects[:0]) // for each input of a batch
//	effects = s.Flush(now, effects)           // once, when the batch is through
//
// Flush starts the durable writes that the batch made necessary and sends what the send window allows, so that a batch
// costs one journal write and one socket write however many packets it held.
//
//	              Connect              claim durable                 connection ends, expiry > 0
//	absent ──────────────► connecting ───────────────► connected ───────────────────────────────► detached
//	                           ▲                            │ expiry = 0                            │   │
//	                           └────────────────────────────┼───────────── Connect ─────────────────┘   │ expiry
//	                                                        ▼                                           ▼
//	                                                      ending ──── will stored, record deleted ──► absent
//
// What must last is in two documents. The record (subscriptions, expiry, will) is written before CONNACK, SUBACK and
// UNSUBACK, but for the CONNACK of who is back soon and brings nothing new; the journal (position in the log, unfinished deliveries, retained messages owed, QoS 2 identifiers received)
// before the packets that promise it: PUBREC, PUBCOMP, PUBLISH and PUBREL of QoS 2, and SUBACK when it owes retained
// messages. Of each document one write is in flight; what
// changes meanwhile goes with the next. An acknowledgement exists only as the answer to the write it promises, so it
// cannot overtake it.
//
// Messages reach a session in log order from one of two sources. Live, it is handed every entry that matches. When its
// client is slower than that, or has just come back, it is catching up: it drops what it has not assigned and asks for
// entries after its position with Fetch, as its window allows, until the source says that it is live again.
//
// The package must not know actors, sockets or NATS. Test it with the scripts in testdata (go test -rewrite updates
// them) and with random inputs against checkInvariants.
package sessions
