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
	shared := harness.Start(t)
	for _, path := range scriptPaths(t) {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := loadScript(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range s.versions {
				t.Run(harness.VersionName(v), func(t *testing.T) {
					t.Parallel()
					play(t, s, v, shared)
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

// play plays a script in one version, on the shared broker or one of its own.
func play(t *testing.T, s *script, v mqttcodec.Version, shared *harness.Broker) {
	t.Helper()
	b := shared
	if s.ownBroker {
		ownBrokers <- struct{}{}
		t.Cleanup(func() { <-ownBrokers })
		var options []harness.Option
		for _, kv := range s.settings {
			options = append(options, harness.Set(kv[0], kv[1]))
		}
		b = harness.Start(t, options...)
	}
	if err := playFor(t, s, v, b); err != nil {
		t.Fatal(err)
	}
}

// playFor plays a script and leaves what goes wrong to the caller.
func playFor(t *testing.T, s *script, v mqttcodec.Version, b *harness.Broker) error {
	p := &player{
		t: t, broker: b, ownBroker: s.ownBroker, version: v, unique: fmt.Sprintf("x%d", runs.Add(1)),
		values: map[string]string{}, connections: map[string]*connection{},
	}
	defer p.closeAll()
	if err := p.runAll(s.statements); err != nil {
		return err
	}
	return p.nothingLeft()
}
