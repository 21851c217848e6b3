package wire

import (
	"flag"
	"os"
	"testing"

	"dunlin/test/harness"
)

// inParallel is how many scripts run at once unless -parallel says otherwise: most of them wait for the broker, or for time to pass.
const inParallel = "48"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", inParallel); err != nil {
			panic(err)
		}
	}
	os.Exit(harness.Run(m))
}
