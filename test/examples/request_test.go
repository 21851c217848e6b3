package examples

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dunlin/test/harness"
)

// A device asks a NATS service, and the nats command line asks the device, with NATS inside and outside.
func TestRequest(t *testing.T) {
	t.Parallel()
	service, device := example(t, "request/service"), example(t, "request/device")
	for _, where := range []string{"inside", "outside"} {
		t.Run("NATS "+where, func(t *testing.T) {
			t.Parallel()
			var b *harness.Broker
			if where == "inside" {
				b = harness.Start(t, harness.WithNATS())
			} else {
				b = harness.Start(t, harness.WithExternalNATS(harness.StartNATSServer(t).URL()))
			}
			nats := harness.NewNATSCommand(t, b.NATS)
			s := start(t, service, "-nats", "nats://"+b.NATS)
			s.expect("serving mqtt0.svc.time")
			if out := nats.Run(t, "req", "--raw", "mqtt0.svc.time", "UTC"); !isTime(out, "UTC") {
				t.Errorf("NATS is told %q", out)
			}

			d := start(t, device, "-mqtt", "mqtt://"+b.MQTT, "-zone", "Asia/Tokyo")
			d.expect("answering at devices/d1/cmd")
			d.expect("time in Asia/Tokyo: ")
			_, told, _ := strings.Cut(d.text(), "time in Asia/Tokyo: ")
			if told, _, _ = strings.Cut(told, "\n"); !strings.HasSuffix(told, "+09:00") || !isTime(told, "Asia/Tokyo") {
				t.Errorf("the device is told %q", told)
			}
			if out := nats.Run(t, "req", "--raw", "mqtt0.devices.d1.cmd", "uptime"); !strings.HasPrefix(out, "d1 is up for ") {
				t.Errorf("the device answers %q", out)
			}
			d.end()

			d = start(t, device, "-mqtt", "mqtt://"+b.MQTT, "-zone", "Atlantis")
			d.expect("the service refuses: unknown time zone Atlantis")
			d.end()

			var stats struct {
				Endpoints []struct {
					Requests int `json:"num_requests"`
					Errors   int `json:"num_errors"`
				} `json:"endpoints"`
			}
			if err := json.Unmarshal([]byte(nats.Run(t, "req", "--raw", "$SRV.STATS.time", "")), &stats); err != nil {
				t.Fatal(err)
			}
			if len(stats.Endpoints) != 1 || stats.Endpoints[0].Requests != 3 || stats.Endpoints[0].Errors != 1 {
				t.Errorf("the service counts %+v", stats)
			}
			s.end()
		})
	}
}

func isTime(text, zone string) bool {
	location, err := time.LoadLocation(zone)
	if err != nil {
		return false
	}
	_, err = time.ParseInLocation(time.RFC3339, strings.TrimSpace(text), location)
	return err == nil
}
