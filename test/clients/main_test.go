// Package clients runs client programs that people use against the broker: mosquitto_sub and mosquitto_pub, MQTT.js.
package clients

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
