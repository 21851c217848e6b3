// Package external holds the black-box tests of a broker whose NATS servers are processes of their own, alone or three in a
// cluster: what it needs of them, and what it does when they are away.
package external

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
