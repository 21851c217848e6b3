package mqttcodec

// Disconnect ends a connection; only 5.0 servers send it. (3.14)
type Disconnect struct {
	Reason               ReasonCode
	SessionExpirySeconds Optional[uint32]
	ReasonString         string
	UserProperties       []UserProperty
	ServerReference      string
}

func (d *decoder) disconnect() *Disconnect {
	p := &Disconnect{}
	if d.version != V5 || len(d.rest) == 0 { // no reason: a normal disconnection (3.14.2.1)
		return p
	}
	p.Reason = d.reason(TypeDisconnect)
	if len(d.rest) == 0 { // no property length: no properties (3.14.2.2.1)
		return p
	}
	var s properties
	if d.properties(&s, TypeDisconnect); d.err != nil {
		return p
	}
	p.SessionExpirySeconds = s.optionalUint32(propSessionExpiry)
	p.ReasonString = s.text(propReasonString)
	p.UserProperties = s.userProperties()
	p.ServerReference = s.text(propServerReference)
	return p
}

func (p *Disconnect) hasProperties() bool {
	return p.SessionExpirySeconds.Present || p.ReasonString != "" || len(p.UserProperties) > 0 || p.ServerReference != ""
}

// disconnect writes the shortest form. Before 5.0 there is only the client's normal disconnection.
func (w *writer) disconnect(p *Disconnect) {
	if w.version != V5 {
		if p.Reason != NormalDisconnection || p.hasProperties() {
			w.err = ErrNoForm
		}
		return
	}
	if p.Reason == NormalDisconnection && !p.hasProperties() {
		return
	}
	w.byte(byte(p.Reason))
	if !p.hasProperties() {
		return
	}
	w.properties(func() {
		optional(w, propSessionExpiry, p.SessionExpirySeconds)
		w.text(propReasonString, p.ReasonString)
		w.userProperties(p.UserProperties)
		w.text(propServerReference, p.ServerReference)
	})
}
