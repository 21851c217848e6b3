package sessions

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
)

// A CONNECT that is refused because too much waits for storage does not cost the client that is there its connection.
func TestRefusedConnectLeavesTheConnectionAlone(t *testing.T) {
	cfg := DefaultConfig("boot")
	s := New(&cfg, "c", Stored{})
	connect := Connect{Connection: 1, Packet: &mqttcodec.Connect{Version: mqttcodec.V311, CleanStart: true, ClientID: "c"}}
	s.Step(start, connect, nil)
	for i := range maxStalled {
		s.Step(start, PacketReceived{Connection: 1, Packet: &mqttcodec.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: "a"}}, nil)
	}
	s.Step(start, Persisted{[]Result{{Token: 1, Err: fmt.Errorf("away: %w", ErrUnavailable)}}}, nil)
	connect.Connection = 2
	effects := s.Step(start, connect, nil)
	if len(effects) != 1 {
		t.Fatalf("effects are %v", effects)
	}
	if e, ok := effects[0].(Refuse); !ok || e.Connection != 2 || e.Reason != mqttcodec.ServerUnavailable || s.Connection() != 1 {
		t.Fatalf("%+v, and the session has connection %d", effects[0], s.Connection())
	}
}
