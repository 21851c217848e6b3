package ledger

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Soak reads from the variables name_SOAK and name_SEED how long to go on, by default as long as short, and what seed to begin
// with, by default a random one.
func Soak(t *testing.T, name string, short time.Duration) (length time.Duration, random *rand.Rand) {
	t.Helper()
	length, seed := short, rand.Uint64()
	if value := os.Getenv(name + "_SOAK"); value != "" {
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	if value := os.Getenv(name + "_SEED"); value != "" {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("%s_SOAK=%v %s_SEED=%d", name, length, name, seed)
	return length, rand.New(rand.NewPCG(seed, 1))
}
