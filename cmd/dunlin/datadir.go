package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// lockName is the file whose lock says that a process uses the data directory. The system drops the lock with the
// process, however that ends, so a file left behind means nothing.
const lockName = "dunlin.lock"

// dataDir is a data directory that this process alone uses until close.
type dataDir struct {
	path string // absolute
	lock *flock.Flock
}

// openDataDir makes the directory when it is missing, and locks it.
func openDataDir(path string) (*dataDir, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w; name it by an absolute path with --data-dir", path, err)
	}
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return nil, unwritable(absolute, err)
	}
	lock := flock.New(filepath.Join(absolute, lockName), flock.SetFlag(os.O_CREATE|os.O_RDWR))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, unwritable(absolute, err)
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s: in use by another process; stop that one, or name another directory with --data-dir", absolute)
	}
	d := &dataDir{path: absolute, lock: lock}
	if err := d.probe(); err != nil {
		d.close()
		return nil, unwritable(absolute, err)
	}
	return d, nil
}

// probe makes and removes a file: a lock file of an earlier run can be opened where nothing new can be made.
func (d *dataDir) probe() error {
	f, err := os.CreateTemp(d.path, ".probe-*")
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Remove(f.Name())
}

func (d *dataDir) close() {
	// The end of the process drops the lock too; there is nothing to do about an error here.
	_ = d.lock.Unlock()
}

// defaultMaxBytes is the smaller of 10 GiB and half of the space that is free or already ours. Counting ours keeps
// the bound in place from one start to the next, as the log grows.
func (d *dataDir) defaultMaxBytes() int64 {
	const most = 10 * gibibyte
	free, known := freeDisk(d.path)
	if !known {
		return most
	}
	return min(most, (free+d.used())/2)
}

// used is the size of all files in the directory. What cannot be read counts nothing.
func (d *dataDir) used() int64 {
	var total int64
	_ = filepath.WalkDir(d.path, func(_ string, entry fs.DirEntry, err error) error {
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

func unwritable(path string, err error) error {
	return fmt.Errorf("data directory %s: cannot be written: %w; make it writable for this user, or name another with --data-dir", path, err)
}
