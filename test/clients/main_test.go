// Package clients runs the MQTT clients that people use against the broker.
package clients

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
