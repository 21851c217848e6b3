//go:build unix

package actors

import (
	"io"
	"net"
	"os"
	"syscall"
)

// lender reads a socket into buffers that it lends, so that a connection has none while nothing comes. Owned by the reader.
type lender struct {
	socket *audible
	raw    syscall.RawConn
	try    func(fd uintptr) bool
	// What try has read.
	buffer *[]byte
	n      int
	err    error
}

// newLender is nil for a socket that can only be read into a buffer which is there before.
func newLender(socket net.Conn) *lender {
	s, ok := socket.(*audible)
	if !ok {
		return nil
	}
	file, ok := s.Conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil
	}
	l := &lender{socket: s, raw: raw}
	l.try = l.tryRead
	return l
}

// read waits until something has come, and returns it in a buffer, which the caller puts back into lentBuffers: nil for none.
func (l *lender) read() (buffer *[]byte, n int, err error) {
	for {
		l.buffer, l.n, l.err = nil, 0, nil
		err := l.raw.Read(l.try)
		if err == nil {
			return l.buffer, l.n, l.err
		}
		if !l.socket.goesOn(err) {
			return nil, 0, err
		}
	}
}

// tryRead reads what is there, and reports false when that is nothing.
func (l *lender) tryRead(fd uintptr) bool {
	b := lentBuffers.Get().(*[]byte)
	n, err := syscall.Read(int(fd), *b)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), *b)
	}
	switch {
	case n > 0:
		l.buffer, l.n = b, n
		return true
	case err == nil:
		l.err = io.EOF
	case err == syscall.EAGAIN:
	default:
		l.err = os.NewSyscallError("read", err)
	}
	lentBuffers.Put(b)
	return l.err != nil
}
