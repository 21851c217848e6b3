package main

import (
	"encoding/json"
	"fmt"
)

// KV is a figure that only one scenario has.
type KV struct {
	K string  `json:"k"`
	V float64 `json:"v"`
}

// Result is what one run of a scenario came to: a line of the results' file. It failed when it has errors.
type Result struct {
	Scenario  string   `json:"scenario"`
	Broker    string   `json:"broker"`
	Round     int      `json:"round"`
	OK        bool     `json:"ok"`
	Errors    []string `json:"errors,omitempty"`
	Published int64    `json:"published"`
	Delivered int64    `json:"delivered"`
	Seconds   float64  `json:"seconds"`
	Rate      float64  `json:"rate"`
	CPUus     float64  `json:"cpu_us_per_msg"`
	GenCPUus  float64  `json:"gen_cpu_us_per_msg"`
	RSSStart  float64  `json:"rss_start_mb"`
	RSSPeak   float64  `json:"rss_peak_mb"`
	RSSEnd    float64  `json:"rss_end_mb"`
	P50       float64  `json:"p50_ms"`
	P99       float64  `json:"p99_ms"`
	P999      float64  `json:"p999_ms"`
	Max       float64  `json:"max_ms"`
	Lost      int64    `json:"lost"`
	Dup       int64    `json:"dup"`
	OOO       int64    `json:"out_of_order"`
	Foreign   int64    `json:"foreign"`
	Extra     []KV     `json:"extra,omitempty"`
}

// jsonOut makes emit print JSON instead of text.
var jsonOut bool

// emit prints the result and returns the exit status.
func emit(r *Result) int {
	r.OK = len(r.Errors) == 0
	if jsonOut {
		b, _ := json.Marshal(r)
		fmt.Println(string(b))
	} else {
		fmt.Printf("%s: published %d, delivered %d in %.2f s: %.0f msg/s; broker CPU %.2f us/msg, generator %.2f us/msg\n",
			r.Scenario, r.Published, r.Delivered, r.Seconds, r.Rate, r.CPUus, r.GenCPUus)
		fmt.Printf("  latency ms p50 %.3f p99 %.3f p99.9 %.3f max %.3f; RSS MB start %.1f peak %.1f end %.1f\n",
			r.P50, r.P99, r.P999, r.Max, r.RSSStart, r.RSSPeak, r.RSSEnd)
		fmt.Printf("  lost %d, duplicated %d, out of order %d, foreign %d\n", r.Lost, r.Dup, r.OOO, r.Foreign)
		for _, kv := range r.Extra {
			fmt.Printf("  %s = %.2f\n", kv.K, kv.V)
		}
		for _, x := range r.Errors {
			fmt.Printf("  FAILED: %s\n", x)
		}
	}
	if !r.OK {
		return 1
	}
	return 0
}
