package mqttcodec

import (
	"fmt"
	"slices"
)

// CheckFromClient reports a *ProtocolError for a packet that is well-formed and only a server may send.
func CheckFromClient(p Packet) error {
	switch p := p.(type) {
	case *Connack, *Suback, *Unsuback, *Pingresp: // table 2-1
		return forbidden("", p.Type().String()+" from a client")
	case *Publish:
		if len(p.SubscriptionIdentifiers) > 0 {
			return forbidden("MQTT-3.3.4-6", "PUBLISH from a client with Subscription Identifier")
		}
	case *Disconnect:
		if slices.Contains(serverDisconnectReasons, p.Reason) { // 3.14.2.1
			return forbidden("MQTT-3.14.2-1", fmt.Sprintf("DISCONNECT from a client with reason code %#02x", byte(p.Reason)))
		}
		if p.ServerReference != "" { // 3.14.2.2.5
			return forbidden("", "DISCONNECT from a client with Server Reference")
		}
	case *Auth:
		if p.Reason == Success { // 3.15.2.1
			return forbidden("MQTT-3.15.2-1", "AUTH from a client with reason code 0x00")
		}
	case *Connect, *Puback, *Pubrec, *Pubrel, *Pubcomp, *Subscribe, *Unsubscribe, *Pingreq: // a client's too
	}
	return nil
}
