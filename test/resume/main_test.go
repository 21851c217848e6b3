// Package resume lets many sessions come back at once to a broker that has the log on disk alone, and measures what that
// takes and what a publisher and its subscriber notice meanwhile.
package resume

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
