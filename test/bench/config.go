package main

import (
	"flag"
	"strconv"
	"strings"
	"time"
)

// Config says what to load the broker with; addFlags says what each field means.
type Config struct {
	Addr, Scenario, Start, DataDir string
	Pid                            int
	V5                             bool
	Size                           int
	Dur                            time.Duration
	Count                          int
	Pairs, Window, Outstanding     int
	Subs, Pubs                     int
	Warm                           int
	Stall                          time.Duration
	Linger                         time.Duration
	K, M                           int
	N, C                           int
	Rate                           int
	Sessions                       string
	Retained                       int
	SubQoS                         int
	Kills                          int
	KillRate                       int
	MaxQoS                         int
	Settle                         time.Duration
}

// addFlags binds the fields of c to flags.
func addFlags(fs *flag.FlagSet, c *Config) {
	fs.StringVar(&c.Addr, "addr", "127.0.0.1:1883", "broker address")
	fs.IntVar(&c.Pid, "pid", 0, "broker process id, for CPU time and memory")
	fs.StringVar(&c.Scenario, "scenario", "qos1-pairs", strings.Join(scenarios, ", "))
	fs.StringVar(&c.Start, "start", "", "kill9: command which starts the broker")
	fs.StringVar(&c.DataDir, "datadir", "", "the broker's data directory, for its size on disk")
	fs.BoolVar(&c.V5, "v5", false, "MQTT 5.0 instead of 3.1.1")
	fs.IntVar(&c.Size, "size", 256, "payload bytes")
	fs.DurationVar(&c.Dur, "dur", 5*time.Second, "how long to publish")
	fs.IntVar(&c.Count, "count", 0, "messages per topic instead of -dur")
	fs.IntVar(&c.Pairs, "pairs", 10, "publisher/subscriber pairs")
	fs.IntVar(&c.Window, "window", 64, "unacknowledged messages per publisher (QoS 1 and 2)")
	fs.IntVar(&c.Outstanding, "outstanding", 0, "undelivered messages per publisher (0: the scenario's default)")
	fs.IntVar(&c.Subs, "subs", 0, "fanout: subscribers (0: the scenario's default)")
	fs.IntVar(&c.Pubs, "pubs", 50, "fanin: publishers")
	fs.IntVar(&c.Warm, "warm", 200, "warm-up messages per topic")
	fs.DurationVar(&c.Stall, "stall", 12*time.Second, "give up after this time without progress (kill9: at least 40s)")
	fs.DurationVar(&c.Linger, "linger", 500*time.Millisecond, "watch for stray messages after the last one")
	fs.IntVar(&c.K, "k", 100, "offline-drain: sessions")
	fs.IntVar(&c.M, "m", 2000, "offline-drain: messages per topic")
	fs.IntVar(&c.N, "n", 10000, "connect-rate, idle-mem, offline-mem: clients")
	fs.IntVar(&c.C, "c", 50, "connect-rate and session creation: concurrency")
	fs.IntVar(&c.Rate, "rate", 1000, "latency: messages a second over all pairs")
	fs.StringVar(&c.Sessions, "sessions", "0,1000,10000", "sessions-scaling: steps, separated by commas or (for compare) slashes")
	fs.IntVar(&c.Retained, "retained", 20000, "retained: topics")
	fs.IntVar(&c.SubQoS, "subqos", 1, "retained: QoS of the subscription")
	fs.IntVar(&c.Kills, "kills", 3, "kill9: how many times")
	fs.IntVar(&c.KillRate, "killrate", 500, "kill9: messages a second per publisher")
	fs.IntVar(&c.MaxQoS, "maxqos", 2, "kill9: 1 for a broker without QoS 2")
	fs.DurationVar(&c.Settle, "settle", 3*time.Second, "idle-mem, offline-mem: wait before measuring")
}

// splitInts reads numbers separated by commas or slashes.
func splitInts(s string) (r []int) {
	for _, x := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '/' }) {
		n, err := strconv.Atoi(strings.TrimSpace(x))
		if err != nil {
			fatal("%q is no number", x)
		}
		r = append(r, n)
	}
	return
}

// scenarios are the names that runScenario knows.
var scenarios = []string{
	"qos0-pairs", "qos0-fanout", "qos1-pairs", "qos1-fanout", "qos1-fanout1000", "qos1-fanin",
	"qos2-pairs", "offline-drain", "connect-rate", "idle-mem", "offline-mem", "latency", "sessions-scaling", "retained", "kill9",
}
