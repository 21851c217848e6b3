// Package clients runs the MQTT clients that people use against the broker, all of them through the same scenarios.
//
//	scenario ──► subject ──► client ──┬─ Go libraries, in this process
//	 (a test)    (fails      (one     ├─ host: a process for each other language, JSON lines (js/, python/)
//	    │        the test)   of kinds)└─ mosquitto_sub, mosquitto_pub
//	    └──────► publisher, observer: raw 5.0 clients on the other side
//
// A new client is an entry in kinds, with what it can and cannot do, and an implementation of client. What is odd about a
// library stays in its file, with a word about why. A new scenario is a test that calls each, or restarted.
package clients

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) {
	code := harness.Run(m)
	for _, h := range []*host{mqttjs, pahoPython, nodeRED} {
		h.end()
	}
	os.Exit(code)
}
