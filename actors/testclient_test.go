package actors

import (
	"net"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
)

// testClient is an MQTT client that does what the test says and nothing more.
type testClient struct {
	t       testing.TB
	socket  net.Conn
	version mqttcodec.Version

	// mu guards the fields below it; changed is signalled when one changes.
	mu      sync.Mutex
	changed sync.Cond
	packets []mqttcodec.Packet
	paused  bool
	ended   error
}

// client opens a network connection to the broker.
func (b *testBroker) client(version mqttcodec.Version) *testClient {
	b.t.Helper()
	socket, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	return newTestClient(b.t, socket, version)
}

func newTestClient(t testing.TB, socket net.Conn, version mqttcodec.Version) *testClient {
	c := &testClient{t: t, socket: socket, version: version}
	c.changed.L = &c.mu
	go c.read()
	t.Cleanup(c.close)
	return c
}

func (c *testClient) read() {
	r := mqttcodec.NewReader(gatedReader{c}, c.version, 0)
	for {
		p, err := r.ReadPacket()
		c.mu.Lock()
		if err != nil {
			c.ended = err
		} else {
			c.packets = append(c.packets, p)
		}
		c.changed.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// gatedReader reads from the socket while the client is not paused.
type gatedReader struct{ c *testClient }

func (r gatedReader) Read(b []byte) (int, error) {
	r.c.mu.Lock()
	for r.c.paused {
		r.c.changed.Wait()
	}
	r.c.mu.Unlock()
	return r.c.socket.Read(b)
}

// pause keeps the client from reading, after the read that it is in; resume ends that.
func (c *testClient) pause() { c.setPaused(true) }

func (c *testClient) resume() { c.setPaused(false) }

func (c *testClient) setPaused(paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = paused
	c.changed.Broadcast()
}

// close ends the network connection without DISCONNECT.
func (c *testClient) close() {
	_ = c.socket.Close()
	c.resume()
}

// encode is the bytes of packets.
func (c *testClient) encode(packets ...mqttcodec.Packet) []byte {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		var err error
		if b, err = mqttcodec.Append(b, c.version, p); err != nil {
			c.t.Fatal(err)
		}
	}
	return b
}

// send writes packets at once.
func (c *testClient) send(packets ...mqttcodec.Packet) {
	c.t.Helper()
	c.write(c.encode(packets...))
}

func (c *testClient) write(b []byte) {
	c.t.Helper()
	_ = c.socket.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.socket.Write(b); err != nil {
		c.t.Errorf("client could not write: %v", err)
	}
}

// next waits for the next packet, nil when the connection has ended.
func (c *testClient) next() mqttcodec.Packet {
	c.t.Helper()
	late := time.AfterFunc(20*time.Second, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ended == nil {
			c.ended = errLate
			c.changed.Broadcast()
		}
	})
	defer late.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.packets) == 0 && c.ended == nil {
		c.changed.Wait()
	}
	if len(c.packets) == 0 {
		if c.ended == errLate { //nolint:errorlint // our own value
			c.ended = nil
			c.t.Fatal("no packet came")
		}
		return nil
	}
	p := c.packets[0]
	c.packets = c.packets[1:]
	return p
}

var errLate = net.ErrWriteToConnected // any error that reading does not return

// expect waits for the next packet, which must be of one type.
func expect[P mqttcodec.Packet](c *testClient) P {
	c.t.Helper()
	next := c.next()
	p, ok := next.(P)
	if !ok {
		var want P
		c.t.Fatalf("got %#v, want %T", next, want)
	}
	return p
}

// wantEnd waits for the end of the connection, with nothing before it.
func (c *testClient) wantEnd() {
	c.t.Helper()
	if p := c.next(); p != nil {
		c.t.Fatalf("got %#v, want the end of the connection", p)
	}
}

// received takes the packets that have come.
func (c *testClient) received() []mqttcodec.Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.packets
	c.packets = nil
	return p
}

// waiting is how many packets have come and were not looked at.
func (c *testClient) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.packets)
}

func (c *testClient) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended != nil
}

// connectPacket is a CONNECT for a session that lasts, at 5.0 an hour.
func connectPacket(version mqttcodec.Version, clientID string, change ...func(*mqttcodec.Connect)) *mqttcodec.Connect {
	p := &mqttcodec.Connect{Version: version, ClientID: clientID}
	if version == mqttcodec.V5 {
		p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(3600))
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// clean makes a CONNECT one for a session that ends with its connection.
func clean(p *mqttcodec.Connect) {
	p.CleanStart = true
	p.Properties.SessionExpirySeconds = mqttcodec.Optional[uint32]{}
}

func receiveMaximum(n uint16) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) { p.Properties.ReceiveMaximum = n }
}

// connected opens a network connection and a session at 5.0.
func (b *testBroker) connected(clientID string, change ...func(*mqttcodec.Connect)) *testClient {
	b.t.Helper()
	c, _ := b.resumed(clientID, change...)
	return c
}

// resumed is connected, and says whether the session was there.
func (b *testBroker) resumed(clientID string, change ...func(*mqttcodec.Connect)) (c *testClient, present bool) {
	b.t.Helper()
	c = b.client(mqttcodec.V5)
	c.send(connectPacket(mqttcodec.V5, clientID, change...))
	ack := expect[*mqttcodec.Connack](c)
	if ack.Reason != mqttcodec.Success {
		b.t.Fatalf("CONNACK of %s has reason %#x", clientID, ack.Reason)
	}
	return c, ack.SessionPresent
}

// subscribe makes subscriptions at one QoS.
func (c *testClient) subscribe(qos mqttcodec.QoS, filters ...string) {
	c.t.Helper()
	p := &mqttcodec.Subscribe{PacketID: 1}
	for _, f := range filters {
		p.Requests = append(p.Requests, mqttcodec.SubscriptionRequest{Filter: f, Options: mqttcodec.SubscriptionOptions{QoS: qos}})
	}
	c.send(p)
	for _, reason := range expect[*mqttcodec.Suback](c).Reasons {
		if reason != mqttcodec.ReasonCode(qos) {
			c.t.Fatalf("SUBACK has reason %#x", reason)
		}
	}
}

// publish1 publishes at QoS 1 and waits for the PUBACK.
func (c *testClient) publish1(topic string, payloads ...string) {
	c.t.Helper()
	for i, payload := range payloads {
		c.send(&mqttcodec.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: topic, Payload: []byte(payload)})
		if ack := expect[*mqttcodec.Puback](c); ack.PacketID != uint16(i+1) || ack.Reason.Failed() {
			c.t.Fatalf("PUBACK %+v for the message %d", ack, i+1)
		}
	}
}

// disconnect leaves in good order and waits for the broker to close.
func (c *testClient) disconnect() {
	c.t.Helper()
	c.send(&mqttcodec.Disconnect{})
	c.wantEnd()
}

// take1 waits for a QoS 1 message and acknowledges it.
func (c *testClient) take1() *mqttcodec.Publish {
	c.t.Helper()
	p := expect[*mqttcodec.Publish](c)
	if p.QoS == 1 {
		c.send(&mqttcodec.Puback{PacketID: p.PacketID})
	}
	return p
}

// takeAll waits for QoS 1 messages with these payloads, in this order.
func (c *testClient) takeAll(payloads ...string) {
	c.t.Helper()
	for _, want := range payloads {
		if got := string(c.take1().Payload); got != want {
			c.t.Fatalf("got message %q, want %q", got, want)
		}
	}
}
