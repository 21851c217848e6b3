package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The lines in a document between which the summary stands.
const (
	summaryBegin = "<!-- bench -->"
	summaryEnd   = "<!-- /bench -->"
)

// also are the figures of single scenarios that the summary names, and how.
var also = []struct{ key, format string }{
	{"rss_kb_each", "%s KB RSS each"},
	{"pub_cpu_us", "publish %s µs"},
	{"drain_cpu_us", "drain %s µs"},
	{"store_cpu_us", "store %s µs"},
	{"clean_cpu_us", "clean %s µs"},
	{"new_persistent_cpu_us", "new %s µs"},
	{"resume_cpu_us", "resume %s µs"},
}

// summary prints one line for each scenario and broker, or writes them into a document.
func summary(args []string) {
	fs := flag.NewFlagSet("summary", flag.ExitOnError)
	into := fs.String("into", "", "write it into this document, between the lines "+summaryBegin+" and "+summaryEnd)
	_ = fs.Parse(args) // it exits on an error
	text := summarize(readResults(fs.Args()))
	if *into == "" {
		fmt.Print(text)
		return
	}
	doc, err := os.ReadFile(*into)
	if err != nil {
		fatal("%v", err)
	}
	changed, err := replaceSummary(string(doc), text)
	if err != nil {
		fatal("%s: %v", *into, err)
	}
	if err := os.WriteFile(*into, []byte(changed), 0o644); err != nil {
		fatal("%v", err)
	}
}

// replaceSummary puts text between the marks in doc.
func replaceSummary(doc, text string) (string, error) {
	before, rest, begins := strings.Cut(doc, summaryBegin)
	_, after, ends := strings.Cut(rest, summaryEnd)
	if !begins || !ends {
		return "", fmt.Errorf("no lines %s and %s", summaryBegin, summaryEnd)
	}
	return before + summaryBegin + "\n\n" + text + "\n" + summaryEnd + after, nil
}

var durationFlag = regexp.MustCompile(` -dur \S+`)

// summarize makes the table: medians of the rounds that succeeded, and the ratio of CPU time to that of the first broker.
func summarize(all []*Result) string {
	var b strings.Builder
	b.WriteString("| scenario | broker | per s | CPU µs each | × | min-max | p99 ms | RSS peak MB | also | rounds ok |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	scenarios, brokers := names(all)
	for _, scenario := range scenarios {
		first := 0.0
		for _, broker := range brokers {
			g := gather(all, scenario, broker)
			if len(g.all) == 0 {
				continue
			}
			cpu := g.median(func(r *Result) float64 { return r.CPUus })
			if first == 0 {
				first = cpu
			}
			lo, hi := g.spread()
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s-%s | %s | %s | %s | %d/%d |\n",
				durationFlag.ReplaceAllString(scenario, ""), broker,
				num(g.median(func(r *Result) float64 { return r.Rate })), num(cpu), ratio(cpu, first), num(lo), num(hi),
				known(g.median(func(r *Result) float64 { return r.P99 })), known(g.median(func(r *Result) float64 { return r.RSSPeak })),
				g.also(), g.ok, len(g.all))
		}
	}
	return b.String()
}

// known writes a figure that is 0 where a scenario does not have it.
func known(v float64) string {
	if v == 0 {
		return "-"
	}
	return num(v)
}

// also names the figures that only this scenario has.
func (g group) also() string {
	var parts []string
	for _, a := range also {
		if x := g.extras(a.key); len(x) > 0 {
			parts = append(parts, fmt.Sprintf(a.format, num(median(x))))
		}
	}
	return strings.Join(parts, ", ")
}

// names are the scenarios and brokers in the order in which they occur.
func names(all []*Result) (scenarios, brokers []string) {
	for _, r := range all {
		if !slices.Contains(scenarios, r.Scenario) {
			scenarios = append(scenarios, r.Scenario)
		}
		if !slices.Contains(brokers, r.Broker) {
			brokers = append(brokers, r.Broker)
		}
	}
	return scenarios, brokers
}
