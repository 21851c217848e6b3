package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Broker is a broker process which this program started, in its own group.
type Broker struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// startBroker starts the command and waits until it answers an MQTT CONNECT.
func startBroker(command, addr, dataDir, logFile string) (*Broker, error) {
	if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("something listens on %s already", addr)
	}
	_, port, _ := net.SplitHostPort(addr)
	b := &Broker{cmd: exec.Command("sh", "-c", "exec "+command), done: make(chan struct{})}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.cmd.Env = append(os.Environ(), "DATADIR="+dataDir, "PORT="+port)
	if logFile == "" {
		logFile = os.DevNull
	}
	var err error
	if b.log, err = os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = b.cmd.Wait(); close(b.done) }()
	probe := time.NewTicker(50 * time.Millisecond)
	defer probe.Stop()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		select {
		case <-b.done:
			return nil, fmt.Errorf("the broker ended at once: %v", b.cmd.ProcessState)
		case <-probe.C:
		}
		// ready when it answers an MQTT CONNECT
		if c, _, err := connect(dialOpts{addr: addr, id: "probe", clean: true, timeout: 2 * time.Second}, nil); err == nil {
			c.disconnect()
			return b, nil
		}
	}
	b.kill()
	return nil, fmt.Errorf("the broker did not answer within a minute")
}

// kill ends the broker's process group and whatever descends from it, which
// some brokers' start scripts put into groups of their own.
func (b *Broker) kill() {
	tree := (&Proc{pid: b.cmd.Process.Pid}).tree()
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	for _, pid := range tree[1:] {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-b.done
	for _, pid := range tree[1:] {
		awaitEnd(pid)
	}
	b.log.Close()
}

// awaitEnd returns when a process that is not our child has ended, or after 10 s.
func awaitEnd(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it is not there any more
	}
	defer func() { _ = unix.Close(fd) }() // it is open
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if _, err := unix.Poll(ended, int(time.Until(end).Milliseconds())); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// stop ends the broker with SIGTERM, or kills it when that takes too long.
func (b *Broker) stop() {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-b.done:
		b.log.Close()
	case <-time.After(8 * time.Second):
		b.kill()
	}
}
