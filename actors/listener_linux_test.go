package actors

import (
	"net"
	"syscall"
	"testing"
)

func TestTCPKeepAliveIsTakenOver(t *testing.T) {
	l, err := listen("MQTT", "127.0.0.1:0", "--mqtt-listen")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]struct{ level, name, want int }{
		"on":       {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		"idle":     {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
		"interval": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
		"count":    {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, probes},
	} {
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), option.level, option.name) }); err != nil || failed != nil {
			t.Fatal(name, err, failed)
		}
		if got != option.want {
			t.Errorf("%s: %d, want %d", name, got, option.want)
		}
	}
}
