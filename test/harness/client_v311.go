package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"dunlin/mqttcodec"
)

// client3 is a connection of paho.mqtt.golang, the 3.1 and 3.1.1 library.
type client3 struct {
	client mqtt3.Client
	lost   chan struct{} // closed when the library has noticed that the connection is gone
	once   sync.Once     // guards the closing of lost

	mu   sync.Mutex
	conn *cutConn // guarded by mu
}

// cutConn is a connection whose end always looks like the other side's doing. The library says nothing of a
// connection that it finds closed on its own side.
type cutConn struct{ net.Conn }

// Read implements net.Conn.
func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

func (c *Client) connect3(d *Device, address string, mode Mode) error {
	l := &client3{lost: make(chan struct{})}
	o := mqtt3.NewClientOptions().
		AddBroker("tcp://" + address).
		SetClientID(d.ID).
		SetCleanSession(mode.clean()).
		SetProtocolVersion(uint(d.Version)).
		SetStore(d.store3).
		SetAutoReconnect(false).
		SetConnectTimeout(Patience).
		SetWriteTimeout(Patience).
		SetKeepAlive(0).
		SetOrderMatters(true).
		SetCustomOpenConnectionFn(l.dial).
		SetConnectionLostHandler(func(mqtt3.Client, error) { l.end() }).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) {
			m.Ack() // before the test sees it, which may disconnect then
			c.messages <- Message{Topic: m.Topic(), Payload: string(m.Payload()), QoS: m.Qos(), Retain: m.Retained()}
		})
	l.client = mqtt3.NewClient(o)
	c.library = l
	token := l.client.Connect().(*mqtt3.ConnectToken)
	if err := wait3(token); err != nil {
		return err
	}
	c.SessionPresent = token.SessionPresent()
	return nil
}

// dial keeps the socket, so that drop can close it without DISCONNECT.
func (l *client3) dial(uri *url.URL, o mqtt3.ClientOptions) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", uri.Host, o.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = &cutConn{conn}
	return l.conn, nil
}

func (l *client3) end() { l.once.Do(func() { close(l.lost) }) }

// wait3 waits for the answer that completes a token.
func wait3(token mqtt3.Token) error {
	if !token.WaitTimeout(Patience) {
		return fmt.Errorf("no answer within %v", Patience)
	}
	return token.Error()
}

func (l *client3) subscribe(filter string, qos byte) error {
	token := l.client.Subscribe(filter, qos, nil).(*mqtt3.SubscribeToken)
	if err := wait3(token); err != nil {
		return err
	}
	if _, shared, ok := mqttcodec.SharedFilter(filter); ok { // the library answers for the filter in it
		filter = shared
	}
	return granted(token.Result()[filter], qos)
}

func (l *client3) unsubscribe(filter string) error { return wait3(l.client.Unsubscribe(filter)) }

func (l *client3) publish(topic string, qos byte, retain bool, payload string) error {
	return wait3(l.client.Publish(topic, qos, retain, payload))
}

func (l *client3) disconnect() error {
	select {
	case <-l.lost:
		return errors.New("the connection was lost before")
	default:
	}
	l.client.Disconnect(250)
	l.end()
	return nil
}

func (l *client3) drop() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return
	}
	conn.Close()
	select {
	case <-l.lost:
	case <-time.After(Patience):
		panic("harness: the library has not noticed that its connection is gone")
	}
}
