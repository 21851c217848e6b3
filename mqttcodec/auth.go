package mqttcodec

// Auth carries enhanced authentication; 5.0 only. (3.15)
type Auth struct {
	Reason               ReasonCode
	AuthenticationMethod Optional[string]
	AuthenticationData   []byte
	ReasonString         string
	UserProperties       []UserProperty
}

func (d *decoder) auth() *Auth {
	p := &Auth{}
	if d.version != V5 {
		d.fail(malformed("", "AUTH before 5.0"))
	}
	if len(d.rest) == 0 { // success and no properties (3.15.2.1)
		return p
	}
	p.Reason = d.reason(TypeAuth)
	var s properties
	if d.properties(&s, TypeAuth); d.err != nil {
		return p
	}
	p.AuthenticationMethod = s.optionalText(propAuthenticationMethod)
	p.AuthenticationData = s.binary(propAuthenticationData)
	p.ReasonString = s.text(propReasonString)
	p.UserProperties = s.userProperties()
	if !p.AuthenticationMethod.Present && (p.Reason != Success || p.AuthenticationData != nil) { // 3.15.2.2.2
		d.fail(forbidden("", "AUTH without Authentication Method"))
	}
	return p
}

func (w *writer) auth(p *Auth) {
	if w.version != V5 {
		w.err = ErrNoForm
		return
	}
	if p.Reason == Success && !p.hasProperties() {
		return
	}
	w.byte(byte(p.Reason))
	w.properties(func() {
		w.optionalText(propAuthenticationMethod, p.AuthenticationMethod)
		w.data(propAuthenticationData, p.AuthenticationData)
		w.text(propReasonString, p.ReasonString)
		w.userProperties(p.UserProperties)
	})
}

func (p *Auth) hasProperties() bool {
	return p.AuthenticationMethod.Present || p.AuthenticationData != nil || p.ReasonString != "" || len(p.UserProperties) > 0
}
