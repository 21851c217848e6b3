package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// table prints the table of results' files.
func table(files []string) {
	var all []*Result
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			fatal("%v", err)
		}
		for _, l := range bytes.Split(b, []byte("\n")) {
			if len(l) == 0 {
				continue
			}
			r := &Result{}
			if err := json.Unmarshal(l, r); err != nil {
				fatal("%s: %v", f, err)
			}
			all = append(all, r)
		}
	}
	render(all)
}

// median sorts x. It is NaN of nothing.
func median(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	sort.Float64s(x)
	if n := len(x); n%2 == 0 {
		return (x[n/2-1] + x[n/2]) / 2
	}
	return x[len(x)/2]
}

// num writes a figure with about three digits.
func num(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// ratio writes v as a multiple of the first broker's figure.
func ratio(v, first float64) string {
	if first == 0 || math.IsNaN(v/first) {
		return "-"
	}
	return strconv.FormatFloat(v/first, 'f', 2, 64)
}

// render prints, for each scenario, the median over the rounds of each broker
// and its ratio to the first broker. Only rounds without failure enter the
// medians; when all failed, the figures are those of the failed ones, marked.
func render(all []*Result) {
	var scs, bks []string
	for _, r := range all {
		if !slices.Contains(scs, r.Scenario) {
			scs = append(scs, r.Scenario)
		}
		if !slices.Contains(bks, r.Broker) {
			bks = append(bks, r.Broker)
		}
	}
	for _, sc := range scs {
		var keys []string
		for _, r := range all {
			if r.Scenario == sc {
				for _, kv := range r.Extra {
					if !slices.Contains(keys, kv.K) {
						keys = append(keys, kv.K)
					}
				}
			}
		}
		fmt.Printf("\n### %s\n\n", sc)
		fmt.Print("| broker | ok | per s | x | CPU us/msg | x | min-max | gen us | p50 ms | p99 ms | p99.9 ms | max ms | RSS peak MB | lost | dup | ooo |")
		for _, k := range keys {
			fmt.Printf(" %s |", k)
		}
		fmt.Print("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
		fmt.Println(strings.Repeat("---|", len(keys)))
		var f1, f2 float64
		var notes []string
		for _, bk := range bks {
			var rs, ok []*Result
			for _, r := range all {
				if r.Scenario == sc && r.Broker == bk {
					rs = append(rs, r)
					if r.OK {
						ok = append(ok, r)
					}
				}
			}
			if len(rs) == 0 {
				continue
			}
			use := ok
			if len(ok) == 0 {
				use = rs
			}
			for _, r := range rs {
				if !r.OK {
					notes = append(notes, fmt.Sprintf("- %s round %d: %s", bk, r.Round, strings.Join(r.Errors, "; ")))
				}
			}
			get := func(f func(*Result) float64) float64 {
				var x []float64
				for _, r := range use {
					x = append(x, f(r))
				}
				return median(x)
			}
			rate, cpu := get(func(r *Result) float64 { return r.Rate }), get(func(r *Result) float64 { return r.CPUus })
			lo, hi := math.Inf(1), 0.0
			for _, r := range use {
				lo, hi = min(lo, r.CPUus), max(hi, r.CPUus)
			}
			if f1 == 0 {
				f1, f2 = rate, cpu
			}
			fmt.Printf("| %s | %d/%d | %s | %s | %s | %s | %s-%s |", bk, len(ok), len(rs), num(rate), ratio(rate, f1), num(cpu), ratio(cpu, f2), num(lo), num(hi))
			for _, f := range []func(*Result) float64{
				func(r *Result) float64 { return r.GenCPUus }, func(r *Result) float64 { return r.P50 },
				func(r *Result) float64 { return r.P99 }, func(r *Result) float64 { return r.P999 },
				func(r *Result) float64 { return r.Max }, func(r *Result) float64 { return r.RSSPeak },
			} {
				fmt.Printf(" %s |", num(get(f)))
			}
			var l, d, o int64
			for _, r := range rs {
				l, d, o = l+r.Lost, d+r.Dup, o+r.OOO
			}
			fmt.Printf(" %d | %d | %d |", l, d, o)
			for _, k := range keys {
				var x []float64
				for _, r := range use {
					for _, kv := range r.Extra {
						if kv.K == k {
							x = append(x, kv.V)
						}
					}
				}
				fmt.Printf(" %s |", num(median(x)))
			}
			fmt.Println()
		}
		if len(notes) > 0 {
			fmt.Println("\nFailures:")
			for _, n := range notes {
				fmt.Println(n)
			}
		}
	}
}
