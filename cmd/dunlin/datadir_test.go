package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirIsMadePrivateAndLeftEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	got, err := prepareDataDir(path)
	if err != nil || got != path {
		t.Fatalf("path %s, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, want 0700", info.Mode())
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 0 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

func TestUnwritableDataDirIsRefused(t *testing.T) {
	// Nothing can be made in these, not even by root.
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, filepath.Join(path, "below"), "/dev/null"} {
		_, err := prepareDataDir(path)
		assertSays(t, err, path, "cannot be written", "--data-dir")
	}
}

func TestDefaultMaxBytesCountsWhatTheLogAlreadyHas(t *testing.T) {
	dir := t.TempDir()
	if got := defaultMaxBytes(dir); got < leastMaxBytes || got > 10*gibibyte {
		t.Errorf("default of %d bytes, want one from 1 MiB to 10 GiB", got)
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "log"), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := usedBytes(dir); got != 5000 {
		t.Errorf("%d bytes in use, want 5000", got)
	}
}

func TestNodeKeepsItsName(t *testing.T) {
	dir := t.TempDir()
	first, err := nodeName(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := nodeName(dir)
	if err != nil || again != first {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
	other, err := nodeName(t.TempDir())
	if err != nil || other == first {
		t.Errorf("two nodes are called %q, %v", other, err)
	}
	if host, err := nodeName(""); err != nil || !strings.HasPrefix(first, host+"-") {
		t.Errorf("without a directory %q, with one %q, %v", host, first, err)
	}
}
