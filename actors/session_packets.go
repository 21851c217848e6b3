package actors

import (
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// credit is what a message that is not stored yet takes of its connection's inbound bound.
type credit struct {
	connection *connection
	bytes      int
}

// onAttach takes the CONNECT of a client. It waits until the connection that the session has is heard out.
func (a *sessionActor) onAttach(m *attach) {
	if a.late(m) {
		return
	}
	a.succession.waiting = append(a.succession.waiting, m)
	a.succeed()
}

// enter hands a CONNECT to the session.
func (a *sessionActor) enter(m *attach) {
	a.handled++
	if m.connection.closing.Load() && !m.connection.pipelined.Load() {
		return // nobody waits for it
	}
	a.next = m.connection
	a.entered = m
	if !a.broker.cluster.alone() {
		a.session.Contest() // others take a session from a node that does not answer at once, and it may not hear of that
	}
	a.step(sessions.Connect{
		Connection: m.connection.id, Packet: m.packet, Identity: m.identity, AuthenticationData: m.authenticationData, Assigned: m.assigned,
		Nonce: a.broker.nonce(), Head: a.broker.router.Head().Sequence,
	})
	a.switchTo(m.connection.id)
	if a.connection == m.connection {
		a.stamp, a.borrowed, a.isolated = m.stamp, false, false
		a.broker.cluster.announce(a.clientID, m.stamp, m.identity.Principal)
	}
}

// switchTo puts the next connection into its place. The old one has got what the session still had to say to it.
func (a *sessionActor) switchTo(id sessions.ConnectionID) {
	if a.next == nil || a.next.id != id {
		return
	}
	a.connection, a.next = a.next, nil
	a.dropPackets()
	a.close, a.congested = false, false
}

// dropPackets forgets what was to be sent: it was handed on.
func (a *sessionActor) dropPackets() {
	clear(a.packets)
	if a.packets, a.publishes, a.bytes = a.packets[:0], 0, 0; cap(a.packets) > keptPackets {
		a.packets = nil
	}
}

// keptPackets is the largest buffer for packets that a session keeps.
const keptPackets = 32

func (a *sessionActor) onInbound(m *inbound) {
	for _, w := range a.succession.waiting {
		if w.connection == m.connection {
			w.behind = append(w.behind, m) // bounded by the connection's inbound bound
			return
		}
	}
	handed := a.broker.router.handed.Load()
	for i, p := range m.packets {
		pending, kept := a.session.Pending(), a.session.Kept()
		a.step(sessions.PacketReceived{Connection: m.connection.id, Packet: p, Handed: handed})
		share := m.bytes / len(m.packets)
		if i == 0 {
			share += m.bytes % len(m.packets)
		}
		if a.session.Pending() > pending { // it keeps its share of the bound until it is stored
			a.credits = append(a.credits, credit{m.connection, share})
		} else {
			m.connection.inflow.release(1, share)
		}
		if a.session.Kept() == kept {
			mqttcodec.Recycle(p)
		}
		m.packets[i] = nil
	}
	if m.err != nil {
		a.step(sessions.ConnectionLost{Connection: m.connection.id, Err: m.err})
	}
	m.recycle()
}

// releaseCredits gives back the shares of messages that are stored, or given up.
func (a *sessionActor) releaseCredits() {
	pending := 0
	if a.session != nil && !a.gone {
		pending = a.session.Pending()
	}
	for len(a.credits) > pending {
		c := a.credits[0]
		a.credits = a.credits[1:]
		c.connection.inflow.release(1, c.bytes)
	}
}

// flushPackets hands what was sent to the connection.
func (a *sessionActor) flushPackets() {
	if a.connection == nil || len(a.packets) == 0 && !a.close {
		return
	}
	congested := a.connection.send(a.packets, a.publishes, a.bytes, a.close)
	a.broker.stats.packetsSent.Add(uint64(len(a.packets)))
	a.dropPackets()
	if a.close {
		a.connection, a.close = nil, false
		return
	}
	if congested && !a.congested {
		a.congested = true
		a.step(sessions.Congestion{Congested: true})
	}
}
