package transcripts

import (
	"slices"
	"strings"
	"testing"
)

func TestPageIsReadAndWritten(t *testing.T) {
	const content = "# Title\n\n```console external eventually\n$ one \\\n  two\nout\n$ three &\n```\n\n```\n$ not run\n```\nend\n"
	if _, err := parsePage(content); err == nil || !strings.Contains(err.Error(), "three") {
		t.Errorf("a background command in a block that is repeated: %v", err)
	}
	p, err := parsePage(strings.Replace(content, " eventually", "", 1))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.blocks("embedded")) != 0 {
		t.Error("a block for external NATS runs with embedded NATS")
	}
	steps := p.blocks("external")[0].steps
	if len(steps) != 2 || steps[0].command != "one \\\n  two" || steps[0].background || steps[1].command != "three" || !steps[1].background {
		t.Errorf("steps: %+v %+v", steps[0], steps[1:])
	}
	steps[1].output = []string{"new"}
	if want := strings.NewReplacer(" eventually", "", "$ three &\n", "$ three &\nnew\n").Replace(content); p.String() != want {
		t.Errorf("written:\n%s\nwant:\n%s", p, want)
	}
	for _, bad := range []string{"```console\n$ a\n", "```console\nout\n```", "```console\n```", "```console later\n$ a\n```"} {
		if _, err := parsePage(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestMaskHidesWhatDiffersFromRunToRun(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"12:00:01 Published 3 bytes", "23:59:59 Published 3 bytes", true},
		{"12:00:01 Published 3 bytes", "12:00:01 Published 4 bytes", false},
		{"Item: MQTT#2 received 2026-11-29 01:31:21.702696353 +0000 UTC (3.09s)", "Item: MQTT#2 received 2027-01-02 11:31:21.7 +0000 UTC (800ms)", true},
		{"│ a │    892 B │ 2.69s │\n│ b │ 1 KiB │ 12ms │", "│ b │ 2 KiB  │ 1ms │\n│ a │ 893 B │ 3.1s │", true},
		{"│ a │ 1 │", "│ a │ 2 │", false},
		{"  Mqtt-Qos: 2\n  unit: C", "  unit: C\n  Mqtt-Qos: 2", true},
		{"  Mqtt-Qos: 2", "  Mqtt-Qos: 1", false},
		{"one\n\ntwo  ", "one\ntwo", true},
		{"one\ntwo", "two\none", false},
		{`"owner":"GBDFJNY273LXU4WUZA7F2E65WQ"`, `"owner":"NO6AH45W2TRCL7UCX73VSFGCTR"`, true},
		{"interval: 10s", "interval: 5s", false},
		{"\x1b[32mok\x1b[0m", "ok", true},
		{"50 %\rdone\r\n", "done", true},
	} {
		if got := slices.Equal(mask(clean(c.a)), mask(clean(c.b))); got != c.same {
			t.Errorf("%q and %q: the same: %v", c.a, c.b, got)
		}
	}
}
