// Package clients runs the MQTT clients that people use against the broker.
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
