package actors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// startOnWebSockets starts a broker whose clients come by WebSocket over the loopback network. It ends with the test.
func startOnWebSockets(t testing.TB, change ...func(*Config)) *testBroker {
	t.Helper()
	listener, err := listen("WebSocket", "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (net.Conn, error) {
		frames, _, err := dialWebSocket(t, listener.Addr().String(), "mqtt")
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), frames, websocket.MessageBinary), nil
	}
	return startTestBroker(t, sessionstest.New(), "boot", listeners{mqtt: newPipeListener(), webSocket: listener}, dial, change)
}

func dialWebSocket(t testing.TB, address string, subprotocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	frames, answer, err := websocket.Dial(testContext(t), "ws://"+address+webSocketPath, &websocket.DialOptions{
		Subprotocols: subprotocols, HTTPHeader: http.Header{"Origin": {"http://elsewhere.example"}},
	})
	if err == nil {
		t.Cleanup(func() { _ = frames.CloseNow() })
	}
	return frames, answer, err
}

// frameClient is a WebSocket client that says where messages end.
type frameClient struct {
	*websocket.Conn
	t testing.TB
}

// frames opens a WebSocket and, if connect, a session at 5.0 on it.
func (b *testBroker) frames(connect bool) *frameClient {
	b.t.Helper()
	conn, _, err := dialWebSocket(b.t, b.WebSocketAddr(), "mqtt")
	if err != nil {
		b.t.Fatal(err)
	}
	c := &frameClient{conn, b.t}
	if connect {
		c.send(encodeAll(b.t, []mqttcodec.Packet{connectPacket(mqttcodec.V5, "c", clean)}))
		c.expect(mqttcodec.TypeConnack)
	}
	return c
}

func (c *frameClient) send(message []byte) {
	c.t.Helper()
	if err := c.Write(testContext(c.t), websocket.MessageBinary, message); err != nil {
		c.t.Fatal(err)
	}
}

// expect waits for a message that begins with a packet of a type, and returns the message.
func (c *frameClient) expect(packet mqttcodec.PacketType) []byte {
	c.t.Helper()
	kind, message, err := c.Read(testContext(c.t))
	if err != nil || kind != websocket.MessageBinary || mqttcodec.PacketType(message[0]>>4) != packet {
		c.t.Fatalf("got %x of kind %v and error %v, want a binary message with packet type %v", message, kind, err, packet)
	}
	return message
}

// wantClosed waits for the end, with nothing before it, and returns the status of the closing frame, -1 without one.
func (c *frameClient) wantClosed() websocket.StatusCode {
	c.t.Helper()
	_, message, err := c.Read(testContext(c.t))
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("got %x and error %v, want the end", message, err)
	}
	return websocket.CloseStatus(err)
}

// [MQTT-6.0.0-4] [3.1.1 MQTT-6.0.0-4] [case 178]
func TestWebSocketAnswerNamesTheSubprotocol(t *testing.T) {
	b := startOnWebSockets(t)
	for _, offer := range [][]string{{"mqtt"}, {"mqttv3.1"}, {"other", "mqtt"}} {
		conn, answer, err := dialWebSocket(t, b.WebSocketAddr(), offer...)
		if err != nil {
			t.Fatal(err)
		}
		if want := offer[len(offer)-1]; conn.Subprotocol() != want || answer.Header.Get("Sec-WebSocket-Protocol") != want {
			t.Errorf("offered %v, got %q", offer, conn.Subprotocol())
		}
	}
}

// [MQTT-6.0.0-3] [3.1.1 MQTT-6.0.0-3]
func TestWebSocketWithoutSubprotocolIsRefused(t *testing.T) {
	b := startOnWebSockets(t)
	for _, offer := range [][]string{nil, {"stomp"}, {"mqttx"}} {
		_, answer, err := dialWebSocket(t, b.WebSocketAddr(), offer...)
		if err == nil || answer == nil || answer.StatusCode != http.StatusBadRequest {
			t.Errorf("offered %v: answer %v, error %v, want status 400", offer, answer, err)
		}
	}
	eventually(t, "refused connections are forgotten", func() bool { return b.Stats().Connections() == 0 })
}

func TestWebSocketSendsPacketsInBinaryMessages(t *testing.T) {
	b := startOnWebSockets(t)
	c := b.connected("c")
	c.subscribe(1, "a")
	large := strings.Repeat("x", 300_000)
	b.connected("publisher").publish1("a", "1", large)
	c.takeAll("1", large)
	c.disconnect()
}

// Several packets in one message, and packets over several messages and frames. [MQTT-6.0.0-2] [3.1.1 MQTT-6.0.0-2]
// [case 178]
func TestWebSocketMessagesNeedNotBePackets(t *testing.T) {
	b := startOnWebSockets(t)
	frames, _, err := dialWebSocket(t, b.WebSocketAddr(), "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, websocket.NetConn(context.Background(), frames, websocket.MessageBinary), mqttcodec.V5)
	publish := &mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "a", Payload: []byte("x")}
	c.send(connectPacket(mqttcodec.V5, "c", clean), publish, publish, publish) // one message
	expect[*mqttcodec.Connack](c)
	for range 3 {
		expect[*mqttcodec.Puback](c)
	}

	bytes := c.encode(publish)
	for i := range bytes {
		c.write(bytes[i : i+1]) // a message
	}
	expect[*mqttcodec.Puback](c)

	message, err := frames.Writer(testContext(t), websocket.MessageBinary)
	if err != nil {
		t.Fatal(err)
	}
	for i := range bytes {
		if _, err := message.Write(bytes[i : i+1]); err != nil { // a frame
			t.Fatal(err)
		}
	}
	if err := message.Close(); err != nil {
		t.Fatal(err)
	}
	expect[*mqttcodec.Puback](c)
}

// A client that sends text is told so, in the way of 5.0, and closed. [MQTT-6.0.0-1] [case 178] [3.1.1 MQTT-6.0.0-1]
func TestWebSocketTextEndsTheConnection(t *testing.T) {
	b := startOnWebSockets(t)
	c := b.frames(true)
	if err := c.Write(testContext(t), websocket.MessageText, encodeAll(t, []mqttcodec.Packet{&mqttcodec.Pingreq{}})); err != nil {
		t.Fatal(err)
	}
	c.expect(mqttcodec.TypeDisconnect)
	if status := c.wantClosed(); status != websocket.StatusNormalClosure {
		t.Errorf("closed with status %d", status)
	}

	c = b.frames(false)
	if err := c.Write(testContext(t), websocket.MessageText, []byte("CONNECT")); err != nil {
		t.Fatal(err)
	}
	c.wantClosed()
	eventually(t, "both connections are forgotten", func() bool { return b.Stats().Connections() == 0 })
}

// What a frame that broke off brought is not taken for packets: it is masked still.
func TestWebSocketFrameThatBreaksOffIsNotRead(t *testing.T) {
	ours, theirs := net.Pipe()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		frames, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		n, err := (&webSocket{frames: frames}).Read(make([]byte, 512))
		if n != 0 || err == nil {
			t.Errorf("read %d bytes, error %v", n, err)
		}
	})}
	listener := newPipeListener()
	defer server.Close()
	go func() { _ = server.Serve(listener) }()
	listener.sockets <- theirs
	_, _ = io.WriteString(ours, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	answer := make([]byte, 4096)
	if n, err := ours.Read(answer); err != nil || !bytes.Contains(answer[:n], []byte(" 101 ")) {
		t.Fatalf("%q, %v", answer[:n], err)
	}
	_, _ = ours.Write([]byte{0x82, 0x80 | 100, 1, 2, 3, 4, 0xC1, 0x02}) // PINGREQ, masked, and 98 bytes that do not come
	ours.Close()
	_ = server.Shutdown(testContext(t))
}

// A ping is answered however long ago the broker wrote something: the deadline of that write is over.
func TestWebSocketPingIsAnsweredBehindAnOldWrite(t *testing.T) {
	b := startOnWebSockets(t, func(c *Config) { c.WriteTimeout = 50 * time.Millisecond })
	c := b.frames(true)
	c.CloseRead(context.Background())
	for begin := time.Now(); time.Since(begin) < 150*time.Millisecond; {
		if err := c.Ping(testContext(t)); err != nil {
			t.Fatalf("after %v: %v", time.Since(begin), err)
		}
	}
}

// A client that takes nothing is given up after the write timeout, with a WebSocket as without.
func TestWebSocketClientThatReadsNothingIsGivenUp(t *testing.T) {
	b := startOnWebSockets(t, func(c *Config) { c.WriteTimeout = 200 * time.Millisecond })
	stuck := b.frames(true)
	stuck.send(encodeAll(t, []mqttcodec.Packet{&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "a"}}}}))
	stuck.expect(mqttcodec.TypeSuback)
	flood := b.connected("flood")
	payload := make([]byte, 256<<10)
	eventually(t, "the write timeout is counted", func() bool {
		flood.send(&mqttcodec.Publish{Topic: "a", Payload: payload})
		return b.stats.writeTimeouts.Load() > 0
	})
	eventually(t, "the connection is forgotten", func() bool { return b.Stats().Connections() == 1 })
}

func TestWebSocketConnectTimeout(t *testing.T) {
	b := startOnWebSockets(t, func(c *Config) { c.ConnectTimeout = 100 * time.Millisecond })
	b.frames(false).wantClosed()
	bare, err := net.Dial("tcp", b.WebSocketAddr()) // not even a request comes
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	_ = bare.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := bare.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %v, want the end of the connection", err)
	}
	eventually(t, "both are forgotten", func() bool { return b.Stats().Connections() == 0 })
}

func TestWebSocketsCountAsConnections(t *testing.T) {
	b := startOnWebSockets(t, func(c *Config) { c.MaxConnections = 1 })
	first := b.connected("first")
	if _, _, err := dialWebSocket(t, b.WebSocketAddr(), "mqtt"); err == nil {
		t.Error("a second connection was taken")
	}
	first.disconnect()
	eventually(t, "there is room again", func() bool { return b.Stats().Connections() == 0 })
	b.connected("second").disconnect()
}

// The shutdown tells clients why, and closes as WebSocket does; one that does not answer holds nothing up.
func TestShutdownClosesWebSockets(t *testing.T) {
	b := startOnWebSockets(t)
	polite := b.frames(true)
	mute, _, err := dialWebSocket(t, b.WebSocketAddr(), "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	(&frameClient{mute, t}).send(encodeAll(t, []mqttcodec.Packet{connectPacket(mqttcodec.V5, "mute", clean)}))
	bare, err := net.Dial("tcp", b.WebSocketAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	eventually(t, "all are connected", func() bool { return b.Stats().Connections() == 3 && b.directory.live.Load() == 2 })
	status := make(chan string, 1)
	go func() {
		_, message, err := polite.Read(testContext(t))
		if err != nil {
			status <- err.Error()
			return
		}
		_, _, err = polite.Read(testContext(t))
		status <- fmt.Sprintf("%x, status %d", message, websocket.CloseStatus(err))
	}()
	begin := time.Now()
	b.shutdown()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	if got := <-status; got != "e0028b00, status 1000" && got != "e0018b, status 1000" {
		t.Errorf("the client got %s", got)
	}
	eventually(t, "nothing is left", func() bool { return b.Stats().Connections() == 0 })
}

// The connection actor does not wait for a client that does not answer the closing handshake.
func TestWebSocketClosingWaitsForNobody(t *testing.T) {
	b := startOnWebSockets(t)
	b.frames(true) // reads nothing any more
	begin := time.Now()
	b.connections.each(func(c *connection) {
		if err := c.socket.(*webSocket).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}
