package scale

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"dunlin/test/harness"
)

// generator is the program of test/bench, built on first use. It is a process of its own: the broker and the idle clients
// of this one need the file descriptors of theirs.
var generator struct {
	once sync.Once
	dir  string
	err  error
}

func removeGenerator() {
	if generator.dir != "" {
		_ = os.RemoveAll(generator.dir)
	}
}

func buildGenerator() {
	if generator.dir, generator.err = os.MkdirTemp("", "dunlin-scale-"); generator.err != nil {
		return
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(generator.dir, "bench"), "dunlin/test/bench").CombinedOutput()
	if err != nil {
		generator.err = fmt.Errorf("build the load generator: %w\n%s", err, out)
	}
}

// result is what we read of the generator's result.
type result struct {
	Errors    []string `json:"errors"`
	Delivered int64    `json:"delivered"`
	CPUus     float64  `json:"cpu_us_per_msg"`
	P99       float64  `json:"p99_ms"`
}

// generate runs a scenario of test/bench, in which everything must arrive.
func generate(t *testing.T, b *harness.Broker, scenario string, flags ...string) result {
	t.Helper()
	generator.once.Do(buildGenerator)
	if generator.err != nil {
		t.Fatal(generator.err)
	}
	args := append([]string{"-addr", b.MQTT, "-pid", strconv.Itoa(b.PID()), "-json", "-scenario", scenario}, flags...)
	cmd := exec.Command(filepath.Join(generator.dir, "bench"), args...)
	harness.DieWithParent(cmd)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var r result
	if bad := json.Unmarshal(out, &r); bad != nil {
		t.Fatalf("no result from the load generator: %v, %v", err, bad)
	}
	if len(r.Errors) > 0 {
		t.Fatalf("%s: %q", scenario, r.Errors)
	}
	return r
}

// load is the same work each time: ten pairs at QoS 1, each publisher with the same number of messages. Of several runs the
// cheapest counts: what else the machine does only adds to it.
func load(t *testing.T, b *harness.Broker) result {
	t.Helper()
	count, runs := 200, 1
	if full() {
		count, runs = 10_000, 3
	}
	best := generate(t, b, "qos1-pairs", "-count", strconv.Itoa(count))
	for range runs - 1 {
		if r := generate(t, b, "qos1-pairs", "-count", strconv.Itoa(count)); r.CPUus < best.CPUus {
			best = r
		}
	}
	return best
}
