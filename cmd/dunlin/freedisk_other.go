//go:build !linux && !darwin && !freebsd

package main

// freeDisk does not know on this system.
func freeDisk(string) (bytes int64, known bool) { return 0, false }
