package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// setImageVariables sets the variables of the Dockerfile's image for the test.
func setImageVariables(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(DUNLIN_[A-Z0-9_]+)=(\S+)`).FindAllStringSubmatch(string(content), -1)
	if len(found) == 0 {
		t.Fatal("the Dockerfile sets no variable of ours")
	}
	for _, f := range found {
		t.Setenv(f[1], f[2])
	}
}

func TestServeTakesWhatTheComposeFileSays(t *testing.T) {
	content, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal(content, &compose); err != nil {
		t.Fatal(err)
	}
	brokers := 0
	for name, service := range compose.Services {
		if !slices.Contains(service.Command, "serve") {
			continue
		}
		brokers++
		t.Run(name, func(t *testing.T) {
			setImageVariables(t)
			for variable, value := range service.Environment {
				t.Setenv(variable, value)
			}
			if service.Command[0] != "serve" {
				t.Errorf("the command is %q, want serve with its flags", service.Command)
			}
			if code, _, stderr := runLine(t, append([]string{"config", "check"}, service.Command[1:]...)...); code != 0 {
				t.Errorf("dunlin %s: %s", strings.Join(service.Command, " "), stderr)
			}
		})
	}
	if brokers != 3 {
		t.Errorf("%d brokers, want 3", brokers)
	}
}

// The image serves nobody until it is said who may connect, and then everybody who reaches the container.
func TestImageAsksForAllowAnonymous(t *testing.T) {
	setImageVariables(t)
	code, _, stderr := runLine(t, "config", "check")
	if code != 1 || !strings.Contains(stderr, "listeners.mqtt 0.0.0.0:1883") || !strings.Contains(stderr, "--allow-anonymous") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, _, stderr := runLine(t, "config", "check", "--allow-anonymous"); code != 0 {
		t.Errorf("with --allow-anonymous: %s", stderr)
	}
}
