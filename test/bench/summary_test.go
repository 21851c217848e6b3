package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	results := func(broker string, rates ...float64) (rs []*Result) {
		for _, x := range rates {
			rs = append(rs, &Result{Scenario: "latency -dur 3s -rate 5", Broker: broker, OK: x != 0, Rate: x, CPUus: x / 10, Extra: []KV{{"drain_cpu_us", x}, {"other", 1}}})
		}
		return rs
	}
	text := summarize(append(results("ours", 100, 0, 300, 200), results("theirs", 400)...))
	for _, want := range []string{
		"| latency -rate 5 | ours | 200 | 20 | 1.00 | 10-30 | - | - | drain 200 µs | 3/4 |\n", // the failed round is no figure
		"| latency -rate 5 | theirs | 400 | 40 | 2.00 | 40-40 | - | - | drain 400 µs | 1/1 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %s in\n%s", want, text)
		}
	}
}

func TestReplaceSummary(t *testing.T) {
	const doc = "above\n" + summaryBegin + "\nold\n" + summaryEnd + "\nbelow\n"
	got, err := replaceSummary(doc, "new\n")
	if want := "above\n" + summaryBegin + "\n\nnew\n\n" + summaryEnd + "\nbelow\n"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if again, _ := replaceSummary(got, "new\n"); again != got {
		t.Errorf("the second time it is %q", again)
	}
	if _, err := replaceSummary("no marks", "new"); err == nil {
		t.Error("a document without marks was changed")
	}
}
