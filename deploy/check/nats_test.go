package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// nats-server reads its configuration, in which the compose file says the name.
func TestNATSServerTakesItsConfiguration(t *testing.T) {
	for _, s := range named(loadCompose(t), "nats-") {
		name := variable(s, "NATS_NAME")
		if name != s.Name {
			t.Errorf("NATS_NAME of %s is %q", s.Name, name)
		}
		cmd := exec.Command("go", "tool", "-modfile="+filepath.Join(root, "tools", "go.mod"), "nats-server", "-t", "--config", filepath.Join(root, "deploy", "nats.conf"))
		cmd.Env = append(os.Environ(), "NATS_NAME="+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
