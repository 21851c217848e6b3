package jetstream

import "github.com/nats-io/nats.go"

// Connect connects to the server without a socket.
func (e *Embedded) Connect() (*nats.Conn, error) {
	nc, err := Connect(e, e.logger)
	if err != nil {
		return nil, err
	}
	e.ours.Add(1)
	nc.SetClosedHandler(func(*nats.Conn) { e.ours.Add(-1) })
	return nc, nil
}

// accompanied reports whether anybody is connected whom Connect has not. The server has no routes and no leaf nodes.
func (e *Embedded) accompanied() bool {
	return int64(e.account.NumLocalConnections()) > e.ours.Load()
}
