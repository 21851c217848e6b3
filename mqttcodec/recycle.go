package mqttcodec

import "sync"

// The two packets that come and go with every message are used again.
var (
	publishes = sync.Pool{New: func() any { return new(Publish) }}
	pubacks   = sync.Pool{New: func() any { return new(Puback) }}
)

// NewPublish is an empty PUBLISH. Whoever is the last to use it may give it back with Recycle.
func NewPublish() *Publish { return publishes.Get().(*Publish) }

// NewPuback is an empty PUBACK. Whoever is the last to use it may give it back with Recycle.
func NewPuback() *Puback { return pubacks.Get().(*Puback) }

// Recycle gives back a packet that nobody uses any more. What it refers to, topic, payload and properties, stays as it is.
// Packets of other types are left to the garbage collector.
func Recycle(p Packet) {
	switch p := p.(type) {
	case *Publish:
		*p = Publish{}
		publishes.Put(p)
	case *Puback:
		*p = Puback{}
		pubacks.Put(p)
	case *SharedPublish, *Connect, *Connack, *Pubrec, *Pubrel, *Pubcomp, *Subscribe, *Suback, *Unsubscribe, *Unsuback, *Pingreq, *Pingresp,
		*Disconnect, *Auth:
	}
}
