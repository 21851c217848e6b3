package wire

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// TestWire plays the scripts in testdata, each in the versions it names. What a script claims, and the clauses, stand at
// its head.
func TestWire(t *testing.T) {
	t.Parallel()
	eachScript(t, func(*script) bool { return true }, play)
}

// Packets that come one byte in a segment have the same answers. [case 24]
func TestWireByteByByte(t *testing.T) {
	t.Parallel()
	onlyBytes := func(s *script) bool { return !s.ownBroker && !s.timed }
	eachScript(t, onlyBytes, func(t *testing.T, s *script, v mqttcodec.Version, shared *harness.Broker) {
		if err := playFor(t, s, v, shared, true); err != nil {
			t.Fatal(err)
		}
	})
}

// eachScript runs a test for each script that is wanted and each of its versions, with one broker for all.
func eachScript(t *testing.T, wanted func(*script) bool, test func(*testing.T, *script, mqttcodec.Version, *harness.Broker)) {
	shared := harness.Start(t)
	for _, path := range scriptPaths(t) {
		s, err := loadScript(path)
		if err != nil {
			t.Fatal(err)
		}
		if !wanted(s) {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, v := range s.versions {
				t.Run(harness.VersionName(v), func(t *testing.T) {
					t.Parallel()
					test(t, s, v, shared)
				})
			}
		})
	}
}

func scriptPaths(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir("testdata", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) == ".txt" {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	return paths
}

// ownBrokers bounds how many brokers of scripts that need their own run at once.
var ownBrokers = make(chan struct{}, 6)

// runs counts the scripts played, for names that nobody else has.
var runs atomic.Uint64

// timedTries is how often a script that is about time may be played until it comes out: on a busy machine time passes for
// its client too.
const timedTries = 3

// play plays a script in one version, on the shared broker or one of its own.
func play(t *testing.T, s *script, v mqttcodec.Version, shared *harness.Broker) {
	t.Helper()
	if s.ownBroker {
		ownBrokers <- struct{}{}
		defer func() { <-ownBrokers }()
	}
	for try := 1; ; try++ {
		b := shared
		if s.ownBroker {
			b = ownBroker(t, s)
		}
		err := playFor(t, s, v, b, false)
		switch {
		case err == nil:
			return
		case !s.timed || try == timedTries:
			t.Fatal(err)
		}
		t.Logf("once more: %v", err)
	}
}

func ownBroker(t *testing.T, s *script) *harness.Broker {
	t.Helper()
	var options []harness.Option
	for _, kv := range s.settings {
		options = append(options, harness.Set(kv[0], kv[1]))
	}
	return harness.Start(t, options...)
}

// playFor plays a script and leaves what goes wrong to the caller; apart: with each byte in a segment of its own.
func playFor(t *testing.T, s *script, v mqttcodec.Version, b *harness.Broker, apart bool) error {
	p := &player{
		t: t, broker: b, ownBroker: s.ownBroker, version: v, apart: apart, unique: fmt.Sprintf("x%d", runs.Add(1)),
		values: map[string]string{}, connections: map[string]*connection{},
	}
	defer p.closeAll()
	if err := p.runAll(s.statements); err != nil {
		return err
	}
	return p.nothingLeft()
}
