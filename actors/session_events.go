package actors

import (
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// tellConnected: the connection has got its CONNACK.
func (a *sessionActor) tellConnected(present bool) {
	c, terms, events := a.connection, a.session.Terms(), a.broker.events
	c.accepted, c.principal, c.will = true, a.session.Principal(), terms.Will
	a.goOnline()
	kind := sessions.EventCreated
	if present {
		kind = sessions.EventResumed
	}
	told := sessions.EventTerms{
		CleanStart: terms.CleanStart, SessionPresent: present, Will: terms.Will,
		KeepAliveSeconds: uint16(terms.KeepAlive / time.Second), ExpirySeconds: sessions.ExpirySeconds(terms.Expiry),
	}
	for _, kind := range [...]sessions.EventKind{kind, sessions.EventConnected} {
		if events.wanted(kind) {
			e := c.event(kind, a.clientID)
			e.EventTerms = &told
			events.tell(e)
		}
	}
}

// tellEnded: a connection that was told of has ended, or will when it has been sent what waits.
func (a *sessionActor) tellEnded(how sessions.Close) {
	c, events := a.connection, a.broker.events
	if !c.accepted {
		return
	}
	c.accepted = false
	end, reason := c.endOf(how)
	if a.presence != nil {
		a.presence.Reason = reason
	}
	end.WillDue = c.will && !(how.ByClient && how.Reason == mqttcodec.NormalDisconnection) // [MQTT-3.14.4-3]
	if how.Reason == mqttcodec.SessionTakenOver && a.next != nil {
		end.NewRemote = a.next.remote()
		if events.wanted(sessions.EventTakenOver) {
			e := c.event(sessions.EventTakenOver, a.clientID)
			e.EventEnd, e.Reason = end, reason
			events.tell(e)
		}
	}
	if events.wanted(sessions.EventDisconnected) {
		e := c.event(sessions.EventDisconnected, a.clientID)
		e.EventEnd, e.Reason = end, reason
		events.tell(e)
	}
}

// The reasons of connections that end without a reason code.
const (
	reasonConnectionLost = "connection_lost"
	reasonUnread         = "client_does_not_read" // limits.write_timeout, or it has left too many answers unread
)

// endOf says how the connection has ended.
func (c *connection) endOf(how sessions.Close) (end *sessions.EventEnd, reason string) {
	switch {
	case how.ByClient || how.Reason != mqttcodec.Success:
	case c.unread.Load():
		return &sessions.EventEnd{By: sessions.EndedByServer}, reasonUnread
	default:
		return &sessions.EventEnd{By: sessions.EndedByNetwork}, reasonConnectionLost
	}
	code := uint8(sessions.DisconnectReason(how.Reason))
	end = &sessions.EventEnd{By: sessions.EndedByServer, ReasonCode: &code}
	if how.ByClient {
		end.By = sessions.EndedByClient
	}
	return end, mqttcodec.ReasonCode(code).DisconnectName()
}

// tellExpired: the session has ended with its time.
func (a *sessionActor) tellExpired(principal string) {
	if a.broker.events.wanted(sessions.EventExpired) {
		a.broker.events.tell(&sessions.Event{Kind: sessions.EventExpired, ClientID: a.clientID, Principal: principal})
	}
}

// event is an event of the client that a connection is or was that of.
func (c *connection) event(kind sessions.EventKind, clientID string) *sessions.Event {
	return &sessions.Event{
		Kind: kind, ClientID: clientID, Principal: c.principal,
		EventConnection: &sessions.EventConnection{Protocol: c.version.Name(), Listener: c.listener, Remote: c.remote()},
	}
}

// goOnline writes that the client is online, if presence is kept.
func (a *sessionActor) goOnline() {
	if !a.broker.presence.kept() {
		return
	}
	c := a.connection
	a.presence = &shownPresence{Presence: sessions.Presence{
		State: sessions.Online, ClientID: a.clientID, Since: time.Now().UTC(), Principal: c.principal, Protocol: c.version.Name(),
		Remote: c.remote(), AssignedID: c.assignedID,
	}}
	a.broker.directory.setOnline(a.clientID, true) // before: who finds it so sees to it that it is written
	a.broker.presence.put(a.presence.Presence, a.presence)
}

// goOffline writes that the client is offline, if that is news. A connection that takes the place of another keeps it online.
func (a *sessionActor) goOffline() {
	if a.presence == nil {
		return
	}
	shown := a.presence
	a.presence = nil
	a.broker.directory.setOnline(a.clientID, false)
	if a.handover == nil { // else it is online elsewhere
		state := shown.Presence
		state.State, state.Since = sessions.Offline, time.Now().UTC()
		a.broker.presence.put(state, shown)
	}
}

func (c *connection) remote() string { return c.socket.RemoteAddr().String() }
