package clients

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// python is an interpreter which has the library: the system's, which the distribution's package is for, or else the one
// on PATH.
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

var pahoPython = newHost(func() []string {
	interpreter, _ := python() // installed
	return []string{interpreter, filepath.Join("python", "client.py")}
})

func pahoPythonInstalled() error {
	_, err := python()
	return err
}

// newPahoPython is Eclipse Paho for Python.
func newPahoPython() client { return newProgram(pahoPython) }
