package deployment

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// cluster is what scripts/cluster.sh starts, in a directory of the test.
type cluster struct {
	t    testing.TB
	port int
	env  []string
	pids string // the file
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	for _, program := range []string{"bash", "ps", "awk"} {
		harness.Program(t, program)
	}
	bin, data := t.TempDir(), t.TempDir()
	for name, program := range map[string]string{"dunlin": harness.Binary(t), "nats-server": harness.Tool(t, "nats-server")} {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{t: t, port: freePorts(t), pids: filepath.Join(data, "pids")}
	c.env = append(os.Environ(), "CLUSTER_BIN="+bin, "CLUSTER_DATA="+data, fmt.Sprintf("CLUSTER_PORT=%d", c.port))
	t.Cleanup(func() { _, _ = c.run("down") }) // whatever became of the test
	return c
}

// run runs the script.
func (c *cluster) run(command string) (output string, err error) {
	cmd := exec.Command("../../scripts/cluster.sh", command)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *cluster) must(command string) string {
	c.t.Helper()
	output, err := c.run(command)
	if err != nil {
		c.t.Fatalf("cluster.sh %s: %v\n%s", command, err, output)
	}
	return output
}

// mqtt is the MQTT address of broker n.
func (c *cluster) mqtt(n int) string { return fmt.Sprintf("127.0.0.1:%d", c.port+n) }

// connect connects a client to broker n.
func (c *cluster) connect(n int, clientID string) *harness.Client {
	at := (&harness.Broker{MQTT: c.mqtt(n)}).For(c.t)
	return harness.NewDevice(mqttcodec.V5, clientID).Connect(at, harness.Ephemeral)
}

// processes are those which the file names.
func (c *cluster) processes() []int {
	c.t.Helper()
	content, err := os.ReadFile(c.pids)
	if err != nil {
		c.t.Fatal(err)
	}
	var list []int
	for line := range strings.Lines(string(content)) {
		pid, err := strconv.Atoi(strings.Fields(line)[0])
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, pid)
	}
	return list
}

// freePorts is a port from which on fifty are free, below those of outgoing connections.
func freePorts(t testing.TB) int {
	t.Helper()
next:
	for range 100 {
		first := 10_000 + rand.IntN(21_900)
		for port := first; port < first+50; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				continue next
			}
			l.Close()
		}
		return first
	}
	t.Fatal("no free ports found")
	return 0
}

// alive reports whether a process runs. One that has ended and that nobody has waited for does not.
func alive(pid int) bool {
	state, _ := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output() // fails when there is none
	return len(state) > 0 && state[0] != 'Z'
}

func TestClusterUpServesAndClusterDownEndsIt(t *testing.T) {
	c := newCluster(t)
	output := c.must("up")
	processes := c.processes()
	if len(processes) != 6 {
		t.Fatalf("processes %v, want three NATS servers and three brokers", processes)
	}
	subscriber := c.connect(1, "subscriber")
	subscriber.Subscribe("a/#", 1)
	for n := 1; n <= 3; n++ {
		if !strings.Contains(output, "mqtt "+c.mqtt(n)+" ") {
			t.Errorf("up does not say that there is a broker at %s:\n%s", c.mqtt(n), output)
		}
		c.connect(n, fmt.Sprint("publisher-", n)).Publish(fmt.Sprint("a/", n), 1, "m")
		if m := subscriber.Receive(); m.Topic != fmt.Sprint("a/", n) || m.QoS != 1 {
			t.Errorf("published at broker %d, received at the first: %+v", n, m)
		}
	}

	if output, err := c.run("up"); err == nil || !strings.Contains(output, "runs already") {
		t.Errorf("up while it is up: %v, %s", err, output)
	}

	other := exec.Command("sleep", "60") // what it has not started lives on, also if the file names it
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	content, err := os.ReadFile(c.pids)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.pids, fmt.Appendf(content, "%d dunlin-4\n", other.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("down")
	for _, pid := range processes {
		if alive(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
	if !alive(other.Process.Pid) {
		t.Error("a process that is not of the cluster was ended")
	}
}

func TestClusterUpLeavesNothingWhenItFails(t *testing.T) {
	c := newCluster(t)
	l, err := net.Listen("tcp", c.mqtt(3))
	if err != nil {
		t.Fatal(err)
	}
	output, err := c.run("up")
	if err == nil || !strings.Contains(output, c.mqtt(3)) || !strings.Contains(output, "CLUSTER_PORT") {
		t.Errorf("with a port taken: %v, %s", err, output)
	}
	l.Close()

	// A broker that cannot start takes the others down with it.
	c.env = append(c.env, "DUNLIN_LOG__LEVEL=loud")
	output, err = c.run("up")
	if err == nil || !strings.Contains(output, "dunlin-1 does not come up") || !strings.Contains(output, "loud") {
		t.Errorf("with a wrong configuration: %v, %s", err, output)
	}
	if _, err := os.Stat(c.pids); !os.IsNotExist(err) {
		t.Errorf("processes are left: %v", c.processes())
	}
	for first := 0; first <= 40; first += 10 {
		for n := 1; n <= 3; n++ {
			address := fmt.Sprintf("127.0.0.1:%d", c.port+first+n)
			if connection, err := net.Dial("tcp", address); err == nil {
				connection.Close()
				t.Errorf("somebody listens on %s", address)
			}
		}
	}
}
