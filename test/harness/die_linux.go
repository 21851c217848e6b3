package harness

import (
	"os/exec"
	"syscall"
)

// DieWithParent makes a command end when the test process does, however that ends.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
