package harness

import (
	"testing"

	"dunlin/mqttcodec"
)

// Ending is how a broker's process goes down.
type Ending int

// The endings that a session must survive.
const (
	CleanStop Ending = iota // the clients disconnect, then SIGTERM
	Term                    // SIGTERM while the clients are connected
	Kill9                   // SIGKILL while the clients are connected
)

// String is the name of the ending in test names.
func (e Ending) String() string { return [...]string{"clean stop", "SIGTERM", "kill -9"}[e] }

// Connection is a client's connection, of whatever library.
type Connection interface {
	// Disconnect ends it the orderly way.
	Disconnect()
	// Drop closes the socket without a word and waits until the client has noticed.
	Drop()
}

// Down ends the process in one of the ways, with these clients connected.
func (b *Broker) Down(how Ending, connected ...Connection) {
	b.t.Helper()
	switch how {
	case CleanStop:
		for _, c := range connected {
			c.Disconnect()
		}
		b.Stop()
		return
	case Term:
		b.Stop()
	case Kill9:
		b.Kill()
	}
	for _, c := range connected {
		c.Drop()
	}
}

// Restart takes the broker down and starts it again on the same addresses and data.
func (b *Broker) Restart(how Ending, connected ...Connection) {
	b.t.Helper()
	b.Down(how, connected...)
	b.Up()
}

// EachEnding runs a test for each ending, in parallel.
func EachEnding(t *testing.T, test func(t *testing.T, how Ending)) {
	t.Helper()
	for _, how := range []Ending{CleanStop, Term, Kill9} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			test(t, how)
		})
	}
}

// Versions are the protocol versions on which the tests run where they differ.
var Versions = []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5}

// VersionName is the name of a protocol version in test names.
func VersionName(v mqttcodec.Version) string {
	return map[mqttcodec.Version]string{mqttcodec.V31: "3.1", mqttcodec.V311: "3.1.1", mqttcodec.V5: "5.0"}[v]
}

// EachVersion runs a test for 3.1.1 and for 5.0, in parallel.
func EachVersion(t *testing.T, test func(t *testing.T, v mqttcodec.Version)) {
	t.Helper()
	for _, v := range Versions {
		t.Run(VersionName(v), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// EachRestart runs a test for each version and each ending, in parallel.
func EachRestart(t *testing.T, test func(t *testing.T, v mqttcodec.Version, how Ending)) {
	t.Helper()
	EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		EachEnding(t, func(t *testing.T, how Ending) { test(t, v, how) })
	})
}
