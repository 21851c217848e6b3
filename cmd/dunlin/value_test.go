package main

import (
	"math"
	"testing"
)

func TestValuesTakeWhatTheySayAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		key            string
		taken, refused []string
	}{
		{"listeners.mqtt", []string{"127.0.0.1:0", "[::1]:1883", ":1883"}, []string{"", "off", "127.0.0.1", "127.0.0.1:mqtt", "127.0.0.1:65536", "::1:1883"}},
		{"nats.listen", []string{"off", "127.0.0.1:4222"}, []string{"", "Off", "4222"}},
		{"storage.data_dir", []string{"x", "/var/lib/dunlin"}, []string{""}},
		{"storage.max_bytes", []string{"auto", "1MiB", "1048576", "1048576B", "10 GiB", "1TB"}, []string{"", "0", "1048575", "10gib", "-1GiB", "1.5GiB", "99999999999TiB"}},
		{"storage.max_age", []string{"1m", "720h"}, []string{"", "59s", "7d", "never", "-1h"}},
		{"log.level", []string{"debug"}, []string{"", "trace", "INFO"}},
		{"auth.allow_anonymous", []string{"true", "false"}, []string{"", "yes", "1", "True"}},
		{"sessions.max_expiry", []string{"never", "1s", "168h"}, []string{"0s", "Never", "1"}},
		{"sessions.max_queued_messages", []string{"0", "1"}, []string{"-1", "1e6", ""}},
		{"sessions.overflow", []string{"drop_oldest", "drop_newest"}, []string{"drop", "reject"}},
		{"sessions.send_window", []string{"1", "256"}, []string{"0", "257"}},
		{"limits.max_packet", []string{"1KiB", "16MiB"}, []string{"1023", "17MiB", "auto"}},
		{"limits.receive_maximum", []string{"1", "65535"}, []string{"0", "65536"}},
		{"limits.max_keep_alive", []string{"0s", "65535s"}, []string{"1500ms", "65536s", "-1s"}},
		{"topics.mapping", []string{"default", "nats-compat"}, []string{"", "nats", "Default"}},
		{"topics.prefix", []string{"mqtt", "acme.mqtt", "A-1_b"}, []string{"", ".", "a.", ".a", "a..b", "a b", "a.>", "*", "$SYS", "größe"}},
		{"topics.live_prefix", []string{"mqtt0", "acme.live"}, []string{"", "a."}},
		{"topics.max_length", []string{"16", "2048"}, []string{"15", "2049"}},
	} {
		var config Config
		v := findKey(c.key).bind(&config)
		for _, text := range c.taken {
			if err := v.set(text); err != nil {
				t.Errorf("%s refuses %q: it must be %s", c.key, text, v.allowed())
			}
		}
		for _, text := range c.refused {
			if err := v.set(text); err == nil {
				t.Errorf("%s takes %q as %s; it must be %s", c.key, text, v.text(), v.allowed())
			}
		}
	}
}

func TestSizesPrintInTheLargestUnitThatLosesNothing(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0B", 1: "1B", 1024: "1KiB", 1500: "1500B", 2000: "2kB", 10 << 30: "10GiB", 1 << 40: "1TiB", math.MaxInt64: "9223372036854775807B",
	} {
		got := formatSize(bytes)
		back, ok := parseSize(got)
		if got != want || !ok || back != bytes {
			t.Errorf("%d prints as %s and reads back as %d, %t; want %s", bytes, got, back, ok, want)
		}
	}
}
