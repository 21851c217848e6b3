package clients

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// python is an interpreter which has the library: that of the system, which the distribution's package is for, or else
// the one on PATH.
var python = sync.OnceValues(func() (string, error) {
	var err error
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		var out []byte
		if out, err = exec.Command(name, "-c", "import paho.mqtt.client").CombinedOutput(); err == nil {
			return name, nil
		}
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return "", err
})

func pahoPythonInstalled() error {
	_, err := python()
	return err
}

// newPahoPython is Eclipse Paho for Python, by python/client.py.
func newPahoPython() client {
	interpreter, _ := python() // installed
	return newProgram(interpreter, filepath.Join("python", "client.py"))
}
