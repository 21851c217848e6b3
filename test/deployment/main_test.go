// Package deployment holds the black-box tests of the scripts that start a cluster.
package deployment

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
