package actors

import (
	"errors"
	"net"
	"syscall"
	"time"
)

const (
	// probeAfter is how long a connection is silent before TCP asks whether its client is still there, and between two
	// questions; after probes without an answer it ends. It is what package net does for each connection.
	probeAfter = 15 * time.Second
	probes     = 9
)

// newListenConfig is how a listener is opened. Connections take over the TCP keep alive of the socket that they come in by, so
// it is set there, once, and not with four system calls for each of them.
func newListenConfig() *net.ListenConfig {
	return &net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		failed := raw.Control(func(fd uintptr) { err = keepAlive(int(fd)) })
		return errors.Join(failed, err)
	}}
}

func keepAlive(fd int) error {
	seconds := int(probeAfter / time.Second)
	return errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, seconds),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, seconds),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, probes),
	)
}
