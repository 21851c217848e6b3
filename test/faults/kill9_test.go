package faults

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"dunlin/test/harness"
	"dunlin/test/ledger"
)

// defaultRounds keeps go test ./... short; make kill9 sets DUNLIN_KILL9_ROUNDS to many more.
const defaultRounds = 3

// TestKill9Loop kills the broker under load, starts it again, and in the end lets everybody have everything.
// [MQTT-4.3.2-3] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-4.6.0-6] [MQTT-3.1.2-5] [case 80] [case 181]
func TestKill9Loop(t *testing.T) {
	rounds, seed := environment(t)
	for _, durability := range []string{"process", "fsync"} {
		t.Run(durability, func(t *testing.T) { kill9Loop(t, durability, rounds, seed) })
	}
}

func kill9Loop(t *testing.T, durability string, rounds int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	// The queues of those who are away may outgrow the default limit in a long run.
	b := harness.Start(t, harness.Set("storage.durability", durability), harness.Set("sessions.max_queued_messages", 0))
	f := ledger.NewFleet(t, b.MQTT)
	for round := range rounds {
		present := f.Online
		if round%2 == 1 {
			present = append([]*ledger.Subscriber{f.Returning}, f.Online...)
		}
		wait := f.Play(b.MQTT, present)
		// From before the clients are all connected to well into the flow.
		harness.Wait(time.Duration(random.Int64N(int64(600 * time.Millisecond))))
		b.Kill()
		wait()
		for random.IntN(4) == 0 { // the broker may die again while it recovers
			b.FalseStart(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		}
		b.Up()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	f.Complete(b)
	t.Logf("%d rounds, %s", rounds, f.Check())
}

// environment reads how many rounds to play, and the seed to play them again.
func environment(t *testing.T) (rounds int, seed uint64) {
	t.Helper()
	rounds, seed = defaultRounds, rand.Uint64()
	if value := os.Getenv("DUNLIN_KILL9_ROUNDS"); value != "" {
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	if value := os.Getenv("DUNLIN_KILL9_SEED"); value != "" {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("DUNLIN_KILL9_ROUNDS=%d DUNLIN_KILL9_SEED=%d", rounds, seed)
	return rounds, seed
}
