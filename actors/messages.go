package actors

import (
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// Messages between actors. Besides these a session actor takes the inputs of its session as they are: sessions.Delivered
// and sessions.Routed (router → session), sessions.Left and sessions.Fetched (session → itself).

// attach: a client has sent CONNECT and is who it says. directory → session.
type attach struct {
	connection *connection
	packet     *mqttcodec.Connect
	assigned   bool
	identity   sessions.Identity
	// authenticationData is the last word of the authentication method, for CONNACK.
	authenticationData []byte
	// stamp is that of the claim to the session, tries how often it was not the first after all.
	stamp int64
	tries int
	// behind is what came behind it while it waited.
	behind []*inbound
}

// inbound: packets of a client, read together. connection → session.
type inbound struct {
	connection *connection
	packets    []mqttcodec.Packet
	bytes      int
	// err is what ended reading behind them, nil when reading goes on.
	err error
}

// heardOut: what a connection has sent is taken, or it cannot be heard. connection → session.
type heardOut struct{ connection *connection }

// outbound: packets for a client. session → connection.
type outbound struct {
	packets []mqttcodec.Packet
	// publishes is how many of them are PUBLISH.
	publishes int
	bytes     int64
	// close: end the connection after them.
	close bool
}

// relinquish and announce are in handover.go.

// loaded: what storage holds of a session. loader → session.
type loaded struct {
	session *sessions.Session
	// borrowed: it is another node's until a client is let in here.
	borrowed bool
	// client is the CONNECT for which it was read, nil when there was none.
	client *attach
	err    error
}

// queueFetched: what the durable queue that a session catches up from held. loader → session.
type queueFetched struct {
	queue   sessions.Queue
	use     uint64
	fetched sessions.Fetched
	// counted: the messages were looked at to count those that wait.
	counted bool
}

// caughtUp: what the shared read of the log has found for a session. catch-up → session.
type caughtUp struct {
	laggard *laggard
	fetched sessions.Fetched
	// counted: Fetched.Queued is what waits.
	counted bool
	// held is the size of the entries while it has not been handed over.
	held int
}

// resultsReady: results of writes wait in the session's result queue. storage → session.
type resultsReady struct{}

// wake: a stored session has something to do: a deadline has come, or its last owner died. directory → session.
type wake struct{}

// timer: a timer of the session has fired. timer wheel → session.
type timer struct {
	kind       sessions.Timer
	generation uint32
}

// showPresence: that the client is online, if it is, is to be written again. directory → session.
type showPresence struct{}

// decongested: the client has read enough for sending to go on. connection → session.
type decongested struct{ connection *connection }

// liveEffective: what others publish to the topics of a SUBSCRIBE comes from now on, or will. live plane → session.
type liveEffective struct {
	effect    sessions.Subscribe
	shareErrs []error
}

// logEndKnown: everything that was stored before a SUBSCRIBE is at or below a sequence. log → session.
type logEndKnown struct {
	effect    sessions.Subscribe
	shareErrs []error
	sequence  uint64
}

// retrySubscribe: the log was handed out far enough for a subscription to be made. router → session.
type retrySubscribe struct {
	effect    sessions.Subscribe
	shareErrs []error
}

// replaysFound: where the replays of a SUBSCRIBE begin. finder → session.
type replaysFound struct {
	effect sessions.FindReplays
	found  []sessions.ReplayFound
}

// sharesJoined: the session is a subscriber of the shared subscriptions of a SUBSCRIBE, or cannot be. share → session.
type sharesJoined struct {
	effect sessions.Subscribe
	errs   []error
}
