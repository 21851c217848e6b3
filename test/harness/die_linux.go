package harness

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the broker end when the test process does, however that ends.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
