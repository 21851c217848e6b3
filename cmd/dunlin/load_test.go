package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func configFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dunlin.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagBeatsVariableBeatsFileBeatsDefault(t *testing.T) {
	sources := []struct {
		name, want string
		add        func(*options)
	}{
		{"default", "168h", func(*options) {}},
		{"file", "1h", func(o *options) { o.file = configFile(t, "storage:\n  max_age: 1h\n") }},
		{"variable", "2h", func(*options) { t.Setenv("DUNLIN_STORAGE__MAX_AGE", "2h") }},
		{"flag", "3h", func(o *options) {
			o.overrides = append(o.overrides, override{"storage.max_age", "3h", "flag --set"})
		}},
		{"later flag", "4h", func(o *options) {
			o.overrides = append(o.overrides, override{"storage.max_age", "4h", "flag --set"})
		}},
	}
	var o options
	for _, source := range sources { // each one joins those before it and wins
		source.add(&o)
		c, set, err := loadConfig(o)
		if err != nil {
			t.Fatalf("%s: %v", source.name, err)
		}
		if got := formatDuration(c.Storage.MaxAge); got != source.want {
			t.Errorf("with %s, storage.max_age is %s from %s, want %s", source.name, got, set["storage.max_age"].origin, source.want)
		}
	}
}

func TestEveryKeyIsSetFromEverySource(t *testing.T) {
	for i := range keys {
		k := &keys[i]
		t.Run(k.name, func(t *testing.T) {
			text := otherValue(t, k)
			section, name, _ := strings.Cut(k.name, ".")
			fromFile := options{file: configFile(t, fmt.Sprintf("auth: {allow_anonymous: true}\n%s:\n  %s: %s\n", section, name, text))}
			if section == "auth" {
				fromFile.file = configFile(t, "auth: {allow_anonymous: true}\n")
			}
			assertEffective(t, k, text, fromFile)
			assertEffective(t, k, text, options{overrides: []override{{k.name, text, "flag --set"}}})
			t.Setenv("DUNLIN_"+strings.ToUpper(strings.ReplaceAll(k.name, ".", "__")), text)
			assertEffective(t, k, text, options{})
		})
	}
}

func assertEffective(t *testing.T, k *key, want string, o options) {
	t.Helper()
	c, set, err := readConfig(o) // what keys have to do with one another is another matter
	if err != nil {
		t.Fatal(err)
	}
	v := k.bind(&c)
	if text, ok := v.(textValue); ok {
		text.hide = nil
		v = text
	}
	if got := v.text(); got != want || set[k.name].origin == "default" {
		t.Errorf("%s is %s from %s, want %s", k.name, got, set[k.name].origin, want)
	}
}

// otherValue is an allowed text which is not the default.
func otherValue(t *testing.T, k *key) string {
	t.Helper()
	var c Config
	for _, text := range []string{"true", "false", "127.0.0.1:99", "json", "warn", "drop_newest", "fsync", "nats-compat", "17", "3", "17s", "17m", "15MiB", "/else"} {
		if text != k.preset && k.bind(&c).set(text) == nil {
			return text
		}
	}
	t.Fatalf("no candidate suits %s", k.name)
	return ""
}

func TestDefaultsAreAllowedAndPrintAsWritten(t *testing.T) {
	c, set, err := loadConfig(options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if got := keys[i].bind(&c).text(); got != set[keys[i].name].text {
			t.Errorf("%s: the default %q prints as %q", keys[i].name, set[keys[i].name].text, got)
		}
	}
}

func TestDefaultExpiryV3FollowsMaxExpiry(t *testing.T) {
	c, _, err := loadConfig(options{overrides: []override{{"sessions.max_expiry", "24h", "flag --set"}}})
	if err != nil || c.Sessions.DefaultExpiryV3 != 24*time.Hour {
		t.Errorf("default_expiry_v3 %s, %v, want 24h", c.Sessions.DefaultExpiryV3, err)
	}
	c, _, err = loadConfig(options{overrides: []override{{"sessions.default_expiry_v3", "never", "flag --set"}}})
	if err != nil || c.Sessions.DefaultExpiryV3 != Never || c.Sessions.MaxExpiry != 168*time.Hour {
		t.Errorf("default_expiry_v3 %s, max_expiry %s, %v, want never and 168h", c.Sessions.DefaultExpiryV3, c.Sessions.MaxExpiry, err)
	}
}

func TestUnknownKeyNamesItsOriginAndTheNearest(t *testing.T) {
	file := configFile(t, "sessions:\n  send_windows: 3\n")
	for _, c := range []struct {
		name, variable string
		o              options
		says           []string
	}{
		{name: "file", o: options{file: file}, says: []string{`"sessions.send_windows"`, "file " + file, `"sessions.send_window"`}},
		{name: "set", o: options{overrides: []override{{"limit.max_paket", "3", "flag --set"}}}, says: []string{`"limit.max_paket"`, "flag --set", `"limits.max_packet"`}},
		{name: "variable", variable: "DUNLIN_LOG__LEVL", says: []string{`"log.levl"`, "variable DUNLIN_LOG__LEVL", `"log.level"`}},
		{name: "section alone", o: options{file: configFile(t, "storage: 5\n")}, says: []string{`"storage"`, `"storage.`}},
		{name: "key without section", o: options{file: configFile(t, "level: info\n")}, says: []string{`"level"`, `"log.level"`}},
		{name: "too deep", o: options{file: configFile(t, "log: {level: {x: 1}}\n")}, says: []string{`"log.level.x"`, `"log.level"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.variable != "" {
				t.Setenv(c.variable, "x")
			}
			_, _, err := loadConfig(c.o)
			assertSays(t, err, c.says...)
		})
	}
}

func TestFileMistakesAreNamed(t *testing.T) {
	for content, says := range map[string][]string{
		"storage.max_age: 1h\n":           {`"storage.max_age"`, "indented"},
		"storage: {max_age: [1h]}\n":      {"storage.max_age", "one value"},
		"storage: {max_age: }\n":          {"storage.max_age", `""`, "duration"},
		"storage: {max_age: 60}\n":        {"storage.max_age", `"60"`, "duration"},
		"log: {level: info, level: 2}\n":  {"already defined"},
		"- storage\n":                     {"sections and keys"},
		"sessions: {max_expiry: forever}": {`"forever"`, "never"},
	} {
		_, _, err := loadConfig(options{file: configFile(t, content)})
		assertSays(t, err, says...)
	}
}

func TestEmptySectionsAndFilesSetNothing(t *testing.T) {
	for _, content := range []string{"", "# nothing\n", "storage:\nlog: {}\n"} {
		if _, _, err := loadConfig(options{file: configFile(t, content)}); err != nil {
			t.Errorf("file %q: %v", content, err)
		}
	}
}

func TestVariablesWithoutDoubleUnderscoreArePassedOver(t *testing.T) {
	t.Setenv("DUNLIN_SERVICE_HOST", "10.0.0.1")
	t.Setenv("DUNLIN_PORT", "tcp://10.0.0.1:1883")
	if _, _, err := loadConfig(options{}); err != nil {
		t.Error(err)
	}
}

func TestOnlyLoopbackWithoutAllowAnonymous(t *testing.T) {
	for address, loopback := range map[string]bool{
		"127.0.0.1:1883": true, "127.3.2.1:0": true, "[::1]:1883": true, "localhost:1883": true,
		"0.0.0.0:1883": false, ":1883": false, "[::]:1883": false, "192.168.1.2:1883": false, "broker.local:1883": false,
	} {
		for _, name := range []string{"listeners.mqtt", "listeners.ws", "nats.listen"} {
			set := []override{{name, address, "flag --set"}}
			_, _, err := loadConfig(options{overrides: set})
			if (err == nil) != loopback {
				t.Errorf("%s %s: error %v, want an error: %t", name, address, err, !loopback)
			}
			set = append(set, override{"auth.allow_anonymous", "true", "flag --allow-anonymous"})
			if _, _, err := loadConfig(options{overrides: set}); err != nil {
				t.Errorf("%s %s with allow_anonymous: %v", name, address, err)
			}
		}
	}
	for _, name := range []string{"listeners.ws", "nats.listen"} {
		if _, _, err := loadConfig(options{overrides: []override{{name, "off", "flag --set"}}}); err != nil {
			t.Errorf("%s off: %v", name, err)
		}
	}
}

func TestPrintedConfigLoadsBackTheSame(t *testing.T) {
	args := []string{"config", "print", "--data-dir", "null", "--set", "sessions.max_expiry=never", "--allow-anonymous", "--set", "storage.max_bytes=1500MB"}
	code, printed, stderr := runLine(t, args...)
	if code != 0 {
		t.Fatal(stderr)
	}
	if !strings.Contains(printed, "max_expiry: never # flag --set\n") || !strings.Contains(printed, "level: info # default\n") {
		t.Errorf("origins are missing:\n%s", printed)
	}
	_, again, stderr := runLine(t, "config", "print", "--config", configFile(t, printed))
	withoutOrigins := func(text string) []string {
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i], _, _ = strings.Cut(lines[i], " #")
		}
		return lines
	}
	if !slices.Equal(withoutOrigins(printed), withoutOrigins(again)) {
		t.Errorf("printed:\n%s\nread back:\n%s%s", printed, again, stderr)
	}
}

func assertSays(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
}

func TestClusterSettingsThatDoNotGoTogether(t *testing.T) {
	listen := func(address string) override { return override{"cluster.listen", address, "flag --cluster-listen"} }
	routes := override{"cluster.routes", "n1:6222,nats-route://n2:6222,n3:6222", "flag --cluster-routes"}
	for _, c := range []struct {
		name string
		set  []override
		says []string // nothing: it is valid
	}{
		{"routes without listener", []override{routes}, []string{"cluster.routes", "flag --cluster-routes", "--cluster-listen"}},
		{"listener without routes", []override{listen("127.0.0.1:6222")}, []string{"cluster.listen", "--cluster-routes"}},
		{"beside servers outside", []override{listen("127.0.0.1:6222"), routes, {"nats.url", "nats://x", "flag --nats"}}, []string{"cluster.listen", "--nats", "leave one"}},
		{"open to all", []override{listen("0.0.0.0:6222"), routes}, []string{"0.0.0.0:6222", "cluster.password", "cluster.tls_ca", "cluster.insecure"}},
		{"no address", []override{listen("127.0.0.1:6222"), {"cluster.routes", "n1:6222,n2", "flag --cluster-routes"}}, []string{"n2", "host:port"}},
		{"half of TLS", []override{listen("0.0.0.0:6222"), routes, {"cluster.tls_ca", "/ca", "test"}}, []string{"certificate", "key"}},
		{"name", []override{listen("127.0.0.1:6222"), routes, {"cluster.name", "a b", "test"}}, []string{"cluster", "a b"}},
		{"on this machine", []override{listen("127.0.0.1:6222"), routes}, nil},
		{"with a password", []override{listen("0.0.0.0:6222"), routes, {"cluster.password", "quill", "test"}}, nil},
		{"with TLS", []override{listen("0.0.0.0:6222"), routes, {"cluster.tls_ca", "/ca", "test"}, {"cluster.tls_cert", "/c", "test"}, {"cluster.tls_key", "/k", "test"}}, nil},
		{"open on purpose", []override{listen("0.0.0.0:6222"), routes, {"cluster.insecure", "true", "test"}}, nil},
		{"replicas", []override{listen("127.0.0.1:6222"), routes, {"storage.replicas", "3", "test"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := loadConfig(options{overrides: c.set})
			if c.says == nil && err == nil {
				return
			}
			assertSays(t, err, c.says...)
		})
	}
}

func TestNATSOutsideAndInsideDoNotMix(t *testing.T) {
	for _, c := range []struct {
		name string
		set  []override
		says []string
	}{
		{"login without servers", []override{{"nats.creds", "/x", "flag --creds"}}, []string{"nats.creds", "flag --creds", "--nats"}},
		{"listener beside servers", []override{{"nats.url", "nats://x", "flag --nats"}, {"nats.listen", "127.0.0.1:4222", "flag --nats-listen"}}, []string{"nats.listen", "flag --nats-listen", "leave one"}},
		{"replicas inside", []override{{"storage.replicas", "3", "flag --set"}}, []string{"storage.replicas", "--cluster-listen", "--nats"}},
		{"certificate without key", []override{{"nats.url", "tls://x", "flag --nats"}, {"nats.tls_cert", "/x", "flag --set"}}, []string{"nats.tls_key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := loadConfig(options{overrides: c.set})
			assertSays(t, err, c.says...)
		})
	}
	c, _, err := loadConfig(options{overrides: []override{{"nats.url", "nats://x", "flag --nats"}}})
	if err != nil || c.Storage.DataDir != "" || c.NATS.Listen != wordOff {
		t.Errorf("data directory %q, listener %q, %v, want none and off", c.Storage.DataDir, c.NATS.Listen, err)
	}
	c, _, err = loadConfig(options{overrides: []override{{"nats.url", "nats://x", "flag --nats"}, {"storage.data_dir", "/d", "flag --data-dir"}}})
	if err != nil || c.Storage.DataDir != "/d" {
		t.Errorf("data directory %q, %v, want the one that was asked for", c.Storage.DataDir, err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c, set, err := loadConfig(options{overrides: []override{{"nats.url", "nats://u:hunter2@x,nats://y", "flag --nats"}, {"nats.password", "hunter2", "flag --set"}, {"nats.token", "hunter2", "flag --set"}}})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printConfig(&out, &c, set); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "(secret)") {
		t.Errorf("printed: %s", out.String())
	}
}
