package wire

import (
	"fmt"
	"sync/atomic"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// bystander is a client that minds its own business: it publishes to itself at every QoS, and each message must come back
// once and in order, whatever others do to the broker.
type bystander struct {
	t      *testing.T
	raw    *harness.Raw
	rounds int
	stop   atomic.Bool
	ended  chan error
}

func startBystander(t *testing.T, b *harness.Broker) *bystander {
	t.Helper()
	s := &bystander{t: t, raw: b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "bystander")), ended: make(chan error, 1)}
	s.raw.Subscribe(harness.Filter("bystander", 2))
	go func() {
		var err error
		for err == nil && !s.stop.Load() {
			s.rounds++
			err = s.round()
		}
		s.ended <- err
	}()
	return s
}

// round publishes a message at each QoS and reads everything that is due.
func (s *bystander) round() error {
	var packets []mqttcodec.Packet
	for qos := range mqttcodec.QoS(3) {
		m := &mqttcodec.Publish{Topic: "bystander", QoS: qos, Payload: fmt.Appendf(nil, "%d/%d", qos, s.rounds)}
		if qos > 0 {
			m.PacketID = uint16(qos)
		}
		packets = append(packets, m)
	}
	if err := s.raw.TrySend(packets...); err != nil {
		return err
	}
	// PUBACK, PUBREC, PUBCOMP; three messages; PUBREL.
	for left := 7; left > 0; left-- {
		p, err := s.raw.TryRead()
		if err != nil {
			return fmt.Errorf("%d packets missing: %w", left, err)
		}
		if err := s.take(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *bystander) take(p mqttcodec.Packet) error {
	switch p := p.(type) {
	case *mqttcodec.Publish:
		if want := fmt.Sprintf("%d/%d", p.QoS, s.rounds); string(p.Payload) != want || p.Duplicate {
			return fmt.Errorf("got %s, want payload %s", describe(p), want)
		}
		switch p.QoS {
		case 1:
			return s.raw.TrySend(&mqttcodec.Puback{PacketID: p.PacketID})
		case 2:
			return s.raw.TrySend(&mqttcodec.Pubrec{PacketID: p.PacketID})
		}
	case *mqttcodec.Pubrec:
		return s.raw.TrySend(&mqttcodec.Pubrel{PacketID: p.PacketID})
	case *mqttcodec.Pubrel:
		return s.raw.TrySend(&mqttcodec.Pubcomp{PacketID: p.PacketID})
	case *mqttcodec.Puback, *mqttcodec.Pubcomp:
	default:
		return fmt.Errorf("got %s", describe(p))
	}
	return nil
}

// finish ends the traffic; all of it must have been complete.
func (s *bystander) finish() {
	s.t.Helper()
	s.stop.Store(true)
	if err := <-s.ended; err != nil {
		s.t.Fatalf("the bystander was disturbed in round %d: %v", s.rounds, err)
	}
	s.t.Logf("the bystander had %d rounds meanwhile", s.rounds)
	if s.rounds < 2 {
		s.t.Error("the bystander got nowhere")
	}
	s.raw.Disconnect()
}
