//go:build unix

package actors

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"dunlin/mqttcodec"
)

// pair is the two ends of a network connection, with real sockets.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if theirs, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return &audible{Conn: ours}, theirs
}

// lendingReader is the reader of a connection, behind CONNECT, with a socket whose buffer is lent.
func lendingReader(t *testing.T, socket net.Conn) (*packetReader, *mailbox) {
	t.Helper()
	c := &connection{broker: &Broker{cfg: DefaultConfig("boot")}, socket: socket, inflow: newInflow(1<<20, 1<<30), version: mqttcodec.V5}
	ref := &sessionRef{mailbox: &mailbox{}}
	c.session.Store(ref)
	r := newPacketReader(c)
	if r.lender == nil {
		t.Fatal("this socket cannot be read into a buffer that is lent")
	}
	return r, ref.mailbox
}

// However the network cuts the stream, the packets are what was sent; and when there is no more, nothing is kept. [case 24]
func TestLentBufferBringsWhatWasSent(t *testing.T) {
	var packets []mqttcodec.Packet
	for i := range 400 {
		packets = append(packets, &mqttcodec.Pingreq{}, &mqttcodec.Publish{Topic: "a", Payload: make([]byte, i)})
		if i%50 == 0 {
			packets = append(packets, &mqttcodec.Publish{Topic: "large", Payload: make([]byte, 2000*i)})
		}
	}
	sent := encodeAll(t, packets)
	ours, theirs := pair(t)
	r, handed := lendingReader(t, ours)
	go func() {
		defer func() { _ = theirs.Close() }()
		chance := rand.New(rand.NewPCG(1, 2))
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+chance.IntN(1<<chance.IntN(17)))
			if _, err := theirs.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	renewed := 0
	err := r.run()
	for ; errors.Is(err, errRenewed); err = r.run() {
		renewed++
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if renewed > settledReads+int(time.Since(r.opened)/rareReads) {
		t.Errorf("a connection that is busy was read on by %d other goroutines", renewed)
	}
	var got []mqttcodec.Packet
	for _, m := range handed.user {
		got = append(got, m.(*inbound).packets...)
	}
	if !bytes.Equal(encodeAll(t, got), sent) {
		t.Fatalf("%d packets came of %d, or others", len(got), len(packets))
	}
	if r.buffer != nil || r.lent != nil {
		t.Errorf("%d bytes are kept", len(r.buffer))
	}
}

// A connection that is heard out is read on; one that is closed is not.
func TestLentBufferIsHeardOut(t *testing.T) {
	ours, theirs := pair(t)
	r, _ := lendingReader(t, ours)
	ended := make(chan error, 1)
	go func() { ended <- r.run() }()
	for range 2 {
		heard := make(chan struct{})
		ours.(hearer).hearOut(func() { close(heard) })
		receiveSoon(t, heard)
	}
	if _, err := theirs.Write([]byte{0x00}); err != nil { // not MQTT
		t.Fatal(err)
	}
	var fault *mqttcodec.ProtocolError
	if err := receiveSoon(t, ended); !errors.As(err, &fault) {
		t.Errorf("reading ended with %v", err)
	}
	_ = ours.Close()
	if err := r.run(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading what is closed ended with %v", err)
	}
}
