package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

var mqttjs = newHost(func() []string { return []string{"node", filepath.Join("js", "mqttjs.js")} })

// newMQTTJS is MQTT.js.
func newMQTTJS() client { return newProgram(mqttjs) }

func mqttjsInstalled() error { return nodePackage("mqtt") }

// nodePackage is nil when a package of js/package.json is there.
func nodePackage(name string) error {
	if _, err := exec.LookPath("node"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join("js", "node_modules", filepath.FromSlash(name))); err != nil {
		return fmt.Errorf("run npm ci in test/clients/js: %w", err)
	}
	return nil
}
