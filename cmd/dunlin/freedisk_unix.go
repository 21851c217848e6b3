//go:build linux || darwin || freebsd

package main

import "syscall"

// freeDisk is how much an unprivileged process can still write on the file system of path.
func freeDisk(path string) (bytes int64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
