//go:build !unix

package actors

import "net"

// lender reads a socket into buffers that it lends; here there is none.
type lender struct{}

func newLender(net.Conn) *lender { return nil }

func (*lender) read() (buffer *[]byte, n int, err error) { panic("there is no lender") }
