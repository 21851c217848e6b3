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
func table(files []string) { render(readResults(files)) }

// readResults reads results' files, one result a line.
func readResults(files []string) (all []*Result) {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			fatal("%v", err)
		}
		for l := range bytes.SplitSeq(b, []byte("\n")) {
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
	return all
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

// group is what the rounds of one scenario with one broker came to. Only rounds without failure enter the figures; when
// all failed, the figures are those of the failed ones.
type group struct {
	all, used []*Result
	ok        int
}

// gather picks the results of a scenario and broker.
func gather(all []*Result, scenario, broker string) (g group) {
	for _, r := range all {
		if r.Scenario == scenario && r.Broker == broker {
			g.all = append(g.all, r)
			if r.OK {
				g.used = append(g.used, r)
			}
		}
	}
	if g.ok = len(g.used); g.ok == 0 {
		g.used = g.all
	}
	return g
}

// median is that of one figure.
func (g group) median(f func(*Result) float64) float64 {
	var x []float64
	for _, r := range g.used {
		x = append(x, f(r))
	}
	return median(x)
}

// extras are the values of a figure of this scenario alone.
func (g group) extras(key string) (x []float64) {
	for _, r := range g.used {
		for _, kv := range r.Extra {
			if kv.K == key {
				x = append(x, kv.V)
			}
		}
	}
	return x
}

// spread is the least and the greatest CPU time.
func (g group) spread() (lo, hi float64) {
	lo = math.Inf(1)
	for _, r := range g.used {
		lo, hi = min(lo, r.CPUus), max(hi, r.CPUus)
	}
	return lo, hi
}

// render prints, for each scenario, the median over the rounds of each broker
// and its ratio to the first broker.
func render(all []*Result) {
	scenarios, brokers := names(all)
	for _, scenario := range scenarios {
		keys := extraKeys(all, scenario)
		fmt.Printf("\n### %s\n\n", scenario)
		fmt.Print("| broker | ok | per s | x | CPU us/msg | x | min-max | gen us | p50 ms | p99 ms | p99.9 ms | max ms | RSS peak MB | lost | dup | ooo |")
		for _, k := range keys {
			fmt.Printf(" %s |", k)
		}
		fmt.Print("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
		fmt.Println(strings.Repeat("---|", len(keys)))
		var first group
		var notes []string
		for _, broker := range brokers {
			g := gather(all, scenario, broker)
			if len(g.all) == 0 {
				continue
			}
			if first.all == nil {
				first = g
			}
			for _, r := range g.all {
				if !r.OK {
					notes = append(notes, fmt.Sprintf("- %s round %d: %s", broker, r.Round, strings.Join(r.Errors, "; ")))
				}
			}
			g.renderLine(broker, first, keys)
		}
		if len(notes) > 0 {
			fmt.Println("\nFailures:")
			for _, n := range notes {
				fmt.Println(n)
			}
		}
	}
}

// extraKeys are the figures of a scenario alone, in the order in which they occur.
func extraKeys(all []*Result, scenario string) (keys []string) {
	for _, r := range all {
		if r.Scenario != scenario {
			continue
		}
		for _, kv := range r.Extra {
			if !slices.Contains(keys, kv.K) {
				keys = append(keys, kv.K)
			}
		}
	}
	return keys
}

// renderLine prints the figures of one broker.
func (g group) renderLine(broker string, first group, keys []string) {
	perSecond, cpuEach := func(r *Result) float64 { return r.Rate }, func(r *Result) float64 { return r.CPUus }
	rate, cpu := g.median(perSecond), g.median(cpuEach)
	lo, hi := g.spread()
	fmt.Printf("| %s | %d/%d | %s | %s | %s | %s | %s-%s |", broker, g.ok, len(g.all), num(rate), ratio(rate, first.median(perSecond)),
		num(cpu), ratio(cpu, first.median(cpuEach)), num(lo), num(hi))
	for _, f := range []func(*Result) float64{
		func(r *Result) float64 { return r.GenCPUus }, func(r *Result) float64 { return r.P50 },
		func(r *Result) float64 { return r.P99 }, func(r *Result) float64 { return r.P999 },
		func(r *Result) float64 { return r.Max }, func(r *Result) float64 { return r.RSSPeak },
	} {
		fmt.Printf(" %s |", num(g.median(f)))
	}
	var l, d, o int64
	for _, r := range g.all {
		l, d, o = l+r.Lost, d+r.Dup, o+r.OOO
	}
	fmt.Printf(" %d | %d | %d |", l, d, o)
	for _, k := range keys {
		fmt.Printf(" %s |", num(median(g.extras(k))))
	}
	fmt.Println()
}
