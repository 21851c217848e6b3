package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"dunlin/mqttcodec"
)

const (
	// webSocketPath is where WebSocket clients connect.
	webSocketPath = "/mqtt"
	// maxRequestHeader bounds the headers of the request that opens a WebSocket, give or take what net/http adds.
	maxRequestHeader = 8 << 10
)

// subprotocols are the names of MQTT among the subprotocols of WebSocket: that of 3.1.1 and 5.0, and that of 3.1.
var subprotocols = []string{"mqtt", "mqttv3.1"}

// socketKey finds the network connection in the context of a request.
type socketKey struct{}

// newWebSocketServer answers the requests that open a WebSocket. Each part of a request has the connect timeout, and the
// CONNECT behind it has it again.
func (b *Broker) newWebSocketServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc(webSocketPath, b.acceptWebSocket)
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: b.cfg.ConnectTimeout,
		ReadTimeout:       b.cfg.ConnectTimeout, // of a body, and of the next request
		WriteTimeout:      b.cfg.WriteTimeout,
		MaxHeaderBytes:    maxRequestHeader,
		ConnContext: func(ctx context.Context, socket net.Conn) context.Context {
			return context.WithValue(ctx, socketKey{}, socket)
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed { // it has not become a WebSocket; that would be StateHijacked
				b.stats.connections.Add(-1)
			}
		},
		ErrorLog: slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
}

// serveWebSockets takes network connections until the server is closed.
func (b *Broker) serveWebSockets() {
	if err := b.webSockets.Serve(admitting{b.listeners.webSocket, b}); !errors.Is(err, http.ErrServerClosed) {
		b.fail(fmt.Errorf("WebSocket clients cannot connect any more: %w", err))
	}
}

// admitting is a listener whose connections count from the start, before they are a WebSocket.
type admitting struct {
	net.Listener
	broker *Broker
}

// Accept implements net.Listener.
func (l admitting) Accept() (net.Conn, error) {
	for {
		socket, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.broker.admit() {
			return &audible{Conn: socket}, nil
		}
		_ = socket.Close()
	}
}

// acceptWebSocket makes a request a WebSocket, and that a connection like any other. Pages of any origin may open one.
func (b *Broker) acceptWebSocket(w http.ResponseWriter, r *http.Request) {
	if !b.begin() {
		refuseRequest(w, http.StatusServiceUnavailable, "the broker is shutting down")
		return
	}
	defer b.tasks.Done()
	if !offersMQTT(r.Header) { // [MQTT-6.0.0-3]
		refuseRequest(w, http.StatusBadRequest, "MQTT needs the WebSocket subprotocol mqtt")
		return
	}
	// The answer names the subprotocol. [MQTT-6.0.0-4]
	frames, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: subprotocols, InsecureSkipVerify: true})
	if err != nil {
		b.log.Debug("not a WebSocket", "err", err) // the client has its answer
		return
	}
	frames.SetReadLimit(-1) // packets have a limit; messages are read bit by bit
	b.serve(&webSocket{audible: r.Context().Value(socketKey{}).(*audible), frames: frames}, listenerWebSocket)
}

// refuseRequest answers, and closes: a connection that is kept for another request would count.
func refuseRequest(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Connection", "close")
	http.Error(w, why, status)
}

// offersMQTT reports whether the client can speak MQTT on the WebSocket that it asks for.
func offersMQTT(h http.Header) bool {
	for offer := range strings.SplitSeq(strings.Join(h.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if slices.ContainsFunc(subprotocols, func(s string) bool { return strings.EqualFold(s, strings.TrimSpace(offer)) }) {
			return true
		}
	}
	return false
}

// webSocket is the byte stream in the binary messages of a WebSocket. Where a message ends says nothing. [MQTT-6.0.0-2]
//
// Close and SetReadDeadline are those of the network connection: Close ends whatever waits for the client, and waits for
// nobody. One goroutine reads, and one other writes.
type webSocket struct {
	*audible
	frames *websocket.Conn
	// message is what is being read, nil between messages. Owned by who reads.
	message io.Reader
	// writeDeadline is owned by who writes.
	writeDeadline time.Time
}

var errNotBinary error = &mqttcodec.ProtocolError{
	Reason: mqttcodec.ProtocolErrorReason, Clause: "MQTT-6.0.0-1", Detail: "WebSocket message is not binary",
}

// Read implements net.Conn. It also answers pings, and the client's closing.
func (s *webSocket) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			kind, message, err := s.frames.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			s.message = message
			if kind != websocket.MessageBinary { // [MQTT-6.0.0-1]
				return 0, errNotBinary
			}
		}
		n, err := s.message.Read(p)
		switch {
		case errors.Is(err, io.EOF):
			s.message = nil
		case err != nil:
			return 0, err // the n bytes of a frame that broke off are still masked
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Write implements net.Conn: it makes p a message.
func (s *webSocket) Write(p []byte) (int, error) {
	// The deadline is on the network connection for this write only: pongs, which whoever reads writes, have their own.
	_ = s.Conn.SetWriteDeadline(s.writeDeadline) // fails on a closed socket only, as writing then does
	defer func() { _ = s.Conn.SetWriteDeadline(time.Time{}) }()
	if err := s.frames.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline implements net.Conn.
func (s *webSocket) SetWriteDeadline(t time.Time) error {
	s.writeDeadline = t
	return nil
}

// CloseWrite starts the closing handshake, behind what was written. The goroutine ends when the client has answered, at
// the read deadline, or with Close.
func (s *webSocket) CloseWrite() error {
	go func() { _ = s.frames.Close(websocket.StatusNormalClosure, "") }()
	return nil
}
