// Package embedded holds the black-box tests of brokers whose NATS servers inside are one cluster: that what is stored is stored on
// all of them, and what an operator does to them.
package embedded

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
