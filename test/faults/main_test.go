// Package faults kills the broker at random moments under load, again and again, and checks what it had promised:
// what was acknowledged arrives, at QoS 2 exactly once, in order, and no session is forgotten.
package faults

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
