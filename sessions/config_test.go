package sessions

import (
	"reflect"
	"testing"
	"time"

	"dunlin/mqttcodec"
)

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := DefaultConfig("boot1")
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigThatMakesNoSenseIsRefused(t *testing.T) {
	for claim, change := range map[string]func(*Config){
		"no boot":                   func(c *Config) { c.Boot = "" },
		"no max expiry":             func(c *Config) { c.MaxExpiry = 0 },
		"max expiry below a second": func(c *Config) { c.MaxExpiry = time.Millisecond },
		"default expiry below 0":    func(c *Config) { c.DefaultExpiryV3 = -time.Second },
		"unknown overflow":          func(c *Config) { c.Overflow = "drop_all" },
		"no send window":            func(c *Config) { c.SendWindow = 0 },
		"a huge send window":        func(c *Config) { c.SendWindow = 1025 },
		"no receive maximum":        func(c *Config) { c.ReceiveMaximum = 0 },
		"a queue below 0":           func(c *Config) { c.MaxQueuedMessages = -1 },
		"no subscriptions":          func(c *Config) { c.MaxSubscriptions = 0 },
		"no backlog":                func(c *Config) { c.BacklogMessages = 0 },
		"no bytes of backlog":       func(c *Config) { c.BacklogBytes = 0 },
	} {
		cfg := DefaultConfig("boot1")
		change(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s is valid", claim)
		}
	}
}

// The expiry that a client gets is what it asked for, up to the cap, and stands in CONNACK only when it is another. (3.2.2.3.2)
func TestGrantedExpiryIsToldWhenItDiffers(t *testing.T) {
	for _, c := range []struct {
		limit time.Duration
		asked uint32
		want  time.Duration
		told  mqttcodec.Optional[uint32]
	}{
		{time.Hour, 0, 0, mqttcodec.Optional[uint32]{}},
		{time.Hour, 60, time.Minute, mqttcodec.Optional[uint32]{}},
		{time.Hour, 3600, time.Hour, mqttcodec.Optional[uint32]{}},
		{time.Hour, 3601, time.Hour, mqttcodec.Some(uint32(3600))},
		{time.Hour, neverSeconds, time.Hour, mqttcodec.Some(uint32(3600))},
		{Never, neverSeconds, Never, mqttcodec.Optional[uint32]{}},
		{Never, neverSeconds - 1, (neverSeconds - 1) * time.Second, mqttcodec.Optional[uint32]{}},
	} {
		cfg := DefaultConfig("boot1")
		cfg.MaxExpiry = c.limit
		p := &mqttcodec.Connect{Version: mqttcodec.V5}
		p.Properties.SessionExpirySeconds = mqttcodec.Some(c.asked)
		s := New(&cfg, "c", Stored{})
		connack := connected(t, s, p)
		if told := connack.Properties.SessionExpirySeconds; s.expiry != c.want || told != c.told {
			t.Errorf("%d seconds, at most %v: %v, told %v", c.asked, c.limit, s.expiry, told)
		}
	}
}

// connected carries a CONNECT out and returns the CONNACK.
func connected(t *testing.T, s *Session, p *mqttcodec.Connect) *mqttcodec.Connack {
	t.Helper()
	effects := s.Step(start, Connect{Connection: 1, Packet: p, Nonce: "n1"}, nil)
	effects = s.Flush(start, effects)
	if s.state == stateConnecting {
		effects = s.Step(start, RecordSaved{Result{Sequence: 1}}, effects)
	}
	for _, e := range effects {
		if e, ok := e.(Send); ok {
			return e.Packet.(*mqttcodec.Connack)
		}
	}
	t.Fatal("no CONNACK")
	return nil
}

// CONNACK tells a client of 5.0 what the server takes and does not have. (3.2.2.3)
func TestConnackTellsTheLimits(t *testing.T) {
	cfg := DefaultConfig("boot1")
	cfg.MaxKeepAlive = time.Minute
	got := connected(t, New(&cfg, "c", Stored{}), &mqttcodec.Connect{Version: mqttcodec.V5, CleanStart: true})
	want := &mqttcodec.Connack{Properties: mqttcodec.ConnackProperties{
		ReceiveMaximum: 1024, TopicAliasMaximum: 32, MaximumPacketSize: 1 << 20,
		ServerKeepAliveSeconds: mqttcodec.Some(uint16(60)),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	got = connected(t, New(&cfg, "c", Stored{}), &mqttcodec.Connect{Version: mqttcodec.V311, CleanStart: true})
	if !reflect.DeepEqual(got, &mqttcodec.Connack{}) {
		t.Errorf("before 5.0: %+v", got)
	}
}
