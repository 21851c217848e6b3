package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// NATSServer is a nats-server process of its own, as a broker uses it that was started with --nats. It keeps its address and
// its store over restarts.
type NATSServer struct {
	// Address is host:port for clients, Name what it calls itself.
	Address, Name string

	t       testing.TB
	config  string // path
	before  string // the configuration before the last Reconfigure
	process *process
	log     *logLines
}

// StartNATSServer starts a server with JetStream and ends it with the test. More is appended to its configuration file; a block
// "jetstream {…}" is put into its own.
func StartNATSServer(t testing.TB, more ...string) *NATSServer {
	t.Helper()
	s := newNATSServer(t, "nats-1", FreeAddress(t), more)
	s.Up()
	return s
}

// StartNATSCluster starts n servers with JetStream that are one cluster, waits until it can place streams with three replicas,
// and ends them with the test.
func StartNATSCluster(t testing.TB, n int, more ...string) []*NATSServer {
	t.Helper()
	servers := make([]*NATSServer, n)
	routes := make([]string, n)
	for i := range routes {
		routes[i] = FreeAddress(t)
	}
	for i := range servers {
		cluster := fmt.Sprintf("cluster { name: flock, no_advertise: true, listen: %q, routes: [%s] }", routes[i], "nats://"+strings.Join(routes, ", nats://"))
		servers[i] = newNATSServer(t, fmt.Sprintf("nats-%d", i+1), FreeAddress(t), append([]string{cluster}, more...))
	}
	for _, s := range servers {
		s.start()
	}
	for _, s := range servers {
		s.AwaitJetStream()
	}
	return servers
}

func newNATSServer(t testing.TB, name, address string, more []string) *NATSServer {
	t.Helper()
	dir := t.TempDir()
	s := &NATSServer{Address: address, Name: name, t: t, log: &logLines{}, config: filepath.Join(dir, "nats.conf")}
	jetStream := fmt.Sprintf("jetstream { store_dir: %q", filepath.Join(dir, "store"))
	for i, m := range more {
		if block, ok := strings.CutPrefix(m, "jetstream {"); ok { // there is one such block
			jetStream += "," + strings.TrimSuffix(block, "}")
			more = slices.Delete(slices.Clone(more), i, i+1)
			break
		}
	}
	config := fmt.Sprintf("server_name: %s\nlisten: %q\n%s }\n%s\n", name, address, jetStream, strings.Join(more, "\n"))
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.process != nil {
			s.Kill()
		}
		s.log.show(t, name)
	})
	return s
}

// URL is where the broker finds it.
func (s *NATSServer) URL() string { return "nats://" + s.Address }

// Up starts the process and waits until it takes requests for streams.
func (s *NATSServer) Up() {
	s.t.Helper()
	s.start()
	s.AwaitJetStream()
}

// start starts the process and waits until it accepts connections.
func (s *NATSServer) start() {
	s.t.Helper()
	cmd := exec.Command(Tool(s.t, "nats-server"), "--config", s.config)
	cmd.Stderr = s.log
	DieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	s.process = p
	Eventually(s.t, startLimit, "nats-server accepts connections", func() error {
		select {
		case <-p.exited:
			s.t.Fatalf("nats-server has ended: %v\n%s", p.err, s.log.tail(20))
		default:
		}
		c, err := net.Dial("tcp", s.Address)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// AwaitJetStream waits until the server, and the cluster that it is in, answer the JetStream API.
func (s *NATSServer) AwaitJetStream() {
	s.t.Helper()
	Eventually(s.t, startLimit, "JetStream answers at "+s.Address, func() error {
		nc, err := nats.Connect(s.URL())
		if err != nil {
			if errors.Is(err, nats.ErrNoServers) {
				return err
			}
			return nil // it is there, and for others: of their account, or with certificates
		}
		defer nc.Close()
		m, err := nc.Request("$JS.API.INFO", nil, time.Second)
		if err != nil || strings.Contains(string(m.Data), `"error"`) && !strings.Contains(string(m.Data), "10039") {
			return fmt.Errorf("%w: %v", err, m)
		}
		return nil
	})
}

// Kill ends the server with SIGKILL.
func (s *NATSServer) Kill() {
	s.process.kill()
	s.process = nil
}

// Stop ends the server with SIGTERM and waits for it.
func (s *NATSServer) Stop() {
	s.t.Helper()
	if err := s.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	<-s.process.exited
	s.process = nil
}

// Reconfigure replaces text in the configuration file and makes the server read it.
func (s *NATSServer) Reconfigure(old, replacement string) {
	s.t.Helper()
	config, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	changed := strings.Replace(string(config), old, replacement, 1)
	if changed == string(config) {
		s.t.Fatalf("%q is not in the configuration", old)
	}
	s.before = string(config)
	s.rewrite(changed)
}

// Restore takes back the last Reconfigure.
func (s *NATSServer) Restore() {
	s.t.Helper()
	s.rewrite(s.before)
}

// rewrite replaces the configuration file; a server that runs has read it when it returns.
func (s *NATSServer) rewrite(config string) {
	s.t.Helper()
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if s.process == nil {
		return
	}
	reloaded := strings.Count(s.log.String(), "Reloaded server configuration")
	if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	Eventually(s.t, Patience, "nats-server reads its configuration", func() error {
		if strings.Count(s.log.String(), "Reloaded server configuration") == reloaded {
			return errors.New("not yet")
		}
		return nil
	})
}
