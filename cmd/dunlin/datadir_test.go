package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDataDirIsMadePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", info.Mode(), err)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 || entries[0].Name() != lockName {
		t.Errorf("the directory holds %v, %v, want only %s", entries, err, lockName)
	}
}

func TestDataDirHasOneUserAtATime(t *testing.T) {
	path := t.TempDir()
	first, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openDataDir(path)
	assertSays(t, err, path, "in use by another process", "--data-dir")
	first.close()
	second, err := openDataDir(path)
	if err != nil {
		t.Fatalf("a lock file that nobody holds: %v", err)
	}
	second.close()
}

func TestUnwritableDataDirIsRefused(t *testing.T) {
	path := t.TempDir()
	// A directory where the lock file belongs cannot be opened for writing, not even by root.
	if err := os.Mkdir(filepath.Join(path, lockName), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := openDataDir(path)
	assertSays(t, err, path, "cannot be written", "--data-dir")
}

func TestDefaultMaxBytesCountsWhatTheLogAlreadyHas(t *testing.T) {
	d, err := openDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if got := d.defaultMaxBytes(); got <= 0 || got > 10*gibibyte {
		t.Errorf("default of %d bytes, want one above 0 and up to 10 GiB", got)
	}
	if err := os.MkdirAll(filepath.Join(d.path, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.path, "sub", "log"), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.used(); got != 5000 {
		t.Errorf("%d bytes in use, want 5000", got)
	}
}
