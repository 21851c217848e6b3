package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// prepareDataDir makes the directory when it is missing, finds out whether files can be made in it, and returns its
// absolute path. That one process has it at a time is the business of the NATS server in it.
func prepareDataDir(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w; name it by an absolute path with --data-dir", path, err)
	}
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return "", unwritable(absolute, err)
	}
	probe, err := os.CreateTemp(absolute, ".probe-*")
	if err != nil {
		return "", unwritable(absolute, err)
	}
	if err := probe.Close(); err != nil {
		return "", unwritable(absolute, err)
	}
	if err := os.Remove(probe.Name()); err != nil {
		return "", unwritable(absolute, err)
	}
	return absolute, nil
}

// nodeFile is the file in the data directory that holds the name of the node.
const nodeFile = "node"

// nodeName is what the node is called: by the name of the host and a few characters, which the data directory remembers, so that
// it stays the same node on another host and beside another on the same one. Without a directory it is the host's name.
func nodeName(dataDir string) (string, error) {
	host, _ := os.Hostname() // without one it is empty
	host = cmp.Or(host, "dunlin")
	if dataDir == "" {
		return host, nil
	}
	path := filepath.Join(dataDir, nodeFile)
	switch known, err := os.ReadFile(path); {
	case err == nil && len(bytes.TrimSpace(known)) > 0:
		return string(bytes.TrimSpace(known)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("name of the node: %w; make %s readable for this user", err, path)
	}
	name := host + "-" + strings.ToLower(rand.Text()[:6])
	if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
		return "", unwritable(dataDir, err)
	}
	return name, nil
}

func unwritable(path string, err error) error {
	return fmt.Errorf("data directory %s: cannot be written: %w; make it writable for this user, or name another with --data-dir", path, err)
}

// defaultMaxBytes is the smaller of 10 GiB and half of the space that is free or already ours.
//
// Invariant: it is never below what is in use, so that a disk which others fill does not cost messages at a restart.
func defaultMaxBytes(dataDir string) int64 {
	free, known := freeDisk(dataDir)
	if !known {
		return mostBytes
	}
	used := usedBytes(dataDir)
	return min(mostBytes, max(used, (free+used)/2, leastMaxBytes))
}

// usedBytes is the size of all files in the directory. What cannot be read counts nothing.
func usedBytes(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
