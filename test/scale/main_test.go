package scale

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) {
	code := harness.Run(m)
	removeGenerator()
	os.Exit(code)
}

// full reports whether the large steps are asked for.
func full() bool { return os.Getenv("DUNLIN_SCALE") == "full" }

// steps are the large steps, or the small ones of the ordinary tests.
func steps(small, large []int) []int {
	if full() {
		return large
	}
	return small
}
