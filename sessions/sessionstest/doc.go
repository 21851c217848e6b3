// Package sessionstest is storage in memory for tests: a Log, a Store, Queues, SharedQueues and a RetainedStore that keep
// what package sessions asks of them, as the durable storage does, and that fail on demand.
//
// Results come from goroutines of the storage, in the order of the writes of their kind. Nothing runs while no write is
// under way, so a storage needs no end and works under virtual time. Crash takes what is stored at that moment into a new
// storage, as a restart after kill -9 would find it. A LivePlane connects brokers, and services without MQTT.
package sessionstest
