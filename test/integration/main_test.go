// Package integration holds the black-box tests of what Dunlin promises its clients: the broker runs as its own
// process, real client libraries talk to it, and it goes down in every way there is.
package integration

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
