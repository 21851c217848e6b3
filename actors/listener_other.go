//go:build !linux

package actors

import "net"

// newListenConfig is how a listener is opened: package net sees to the TCP keep alive of each connection.
func newListenConfig() *net.ListenConfig { return &net.ListenConfig{} }
