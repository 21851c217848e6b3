// Package jetstream keeps the broker's durable state in NATS JetStream: it implements the storage interfaces of package
// sessions and embeds the NATS server. It is the only package that imports nats.go and nats-server.
//
//	asset            kind                    subjects                    written by              read by
//	MQTT             stream, limits          mqtt.>                      Log.Append, any NATS    Log.Tail, Log.Scan, queues, any NATS
//	dunlin-s-<id>    pull consumer on MQTT   filters of one session      -                       Queue.Fetch
//	dunlin-g-<hash>  pull consumer on MQTT   filter of one group         -                       SharedQueue.Take
//	mqtt_sessions    KV bucket               $KV.mqtt_sessions.<id>      Store.SaveRecord        Store.Load, Store.Each
//	MQTT_JOURNAL     stream, 1 per subject   mqtt_journal.<id>           Store.SaveJournal       Store.Load
//	                                         mqtt_checkpoint.<boot>      Store.SaveCheckpoint    Store.Checkpoints
//	-                core NATS               mqtt0.>                     Live.Publish, any NATS  Live.Run, any NATS
//	mqtt_retained    KV bucket               $KV.mqtt_retained.<topic>   RetainedStore.Put,      RetainedStore.Each, .Watch, any NATS
//	                                                                     any NATS
//	mqtt_presence    KV bucket, if enabled   $KV.mqtt_presence.<id>      PresenceStore.Put       PresenceStore.Each, any NATS
//	-                core NATS               dunlin.event.<kind>         Events.Publish          any NATS
//	MQTT_DELAYED     stream, limits          mqtt_delayed.<seconds>.>    Delayed.Put, any NATS   Delayed.Follow, Delayed.Load
//
// A stream, bucket or consumer without our metadata belongs to somebody else: it is used if it has the shape we need, and
// never updated or deleted.
//
// Writes go through two publishers, one for the log and one for everything else, so that a burst of messages does not
// hold up a session's journal. Each has one reply subject space, a window of unanswered writes and one goroutine that
// takes the answers in batches. Messages that come while others are stored go together, with one answer (batching); what waits
// for that is bounded by the inbound bounds of connections, as what waits for room in the window is. With durability fsync each of them commits in groups (groupCommit), one group to each
// stream at a time; the streams, and the server's other files, are synced by the server as it answers. All replies are
// subjects of our own making; nothing a client sends becomes a reply, a header name or a raw subject token. What a NATS service
// names as reply of a request on the live plane is where an answer goes, unless it is a subject of ours or of the server.
//
//	goroutine          started by    stopped by       blocks on                   owns
//	inboxes.watch      Open          Storage.Close    status                      what requests wait for
//	publisher.run      Open          Storage.Close    acks, status, ticks         the order of results
//	Log.Tail           the caller    its context      own entries, messages,      the order of the log, its consumer if
//	                                                  status, ticks               it has one
//	Live.Run           the caller    its context      what others publish         batches handed over, what clients answer
//	Live.obey          Live.Run      Live.Run         orders, the server's pongs  subscriptions that begin
//	Live.send          Live.Run      Live.Run         the connection              -
//	hints of Log.Tail  Log.Tail      Log.Tail         what others publish         -
//	Watch of retained  the caller    its context      hints, status, ticks        how far the bucket was read
//	its hints          Watch         Watch            what others write           -
//
// What the log has taken from this node waits for the tail, 65,536 messages or 32 MiB: more are left out, and read from the log.
// Of what this node writes to the retained messages the revisions wait for their watch, 4,096 stretches: more are left out, and read.
// What others publish is only counted, up to 16,384 messages that wait for it: more are dropped, and the log is looked at anyway.
//
// On the live plane 8,192 messages of others or 64 MiB may wait to be handed over, and 16,384 messages or 16 MiB to be published: more are
// dropped. Filters to be listened to wait for their turn, however many.
//
// What a reader gets back from JetStream is untrusted: a subject that is no topic, or a header that makes no sense, is
// counted and passed over.
//
// Test it with jetstreamtest.StartNATS: an embedded server without a port, in the test's directory.
package jetstream
