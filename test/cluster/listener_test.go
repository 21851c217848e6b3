package cluster

import (
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// listener is a connection that is read, and answered, by a goroutine of its own.
type listener struct {
	*harness.Raw
	messages chan *mqttcodec.Publish // closed with the connection
	ended    chan struct{}           // closed with the connection
	reason   mqttcodec.ReasonCode    // of the broker's DISCONNECT, 0 without one; to be read when ended is closed
}

// listen reads a connection from now on. It must be subscribed already.
func listen(r *harness.Raw) *listener {
	l := &listener{Raw: r, messages: make(chan *mqttcodec.Publish, 1<<14), ended: make(chan struct{})}
	go l.run()
	return l
}

func (l *listener) run() {
	defer close(l.ended)
	defer close(l.messages)
	for {
		p, err := l.TryRead()
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *mqttcodec.Publish:
			l.messages <- p
			switch p.QoS {
			case 1:
				err = l.TrySend(&mqttcodec.Puback{PacketID: p.PacketID})
			case 2:
				err = l.TrySend(&mqttcodec.Pubrec{PacketID: p.PacketID})
			}
		case *mqttcodec.Pubrel:
			err = l.TrySend(&mqttcodec.Pubcomp{PacketID: p.PacketID})
		case *mqttcodec.Disconnect:
			l.reason = p.Reason
		}
		if err != nil {
			return
		}
	}
}

// await waits until the broker has closed.
func (l *listener) await(t *testing.T) {
	t.Helper()
	select {
	case <-l.ended:
	case <-time.After(harness.Patience):
		t.Fatal("the connection was not closed")
	}
}

// next is the next message.
func (l *listener) next(t *testing.T) *mqttcodec.Publish {
	t.Helper()
	select {
	case m, open := <-l.messages:
		if open {
			return m
		}
		t.Fatalf("the connection was closed, with reason %#x", l.reason)
	case <-time.After(harness.Patience):
		t.Fatal("no message")
	}
	return nil
}
