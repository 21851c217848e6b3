package clients

import "testing"

// arrivals checks off messages on both sides of a crash. All must arrive: at QoS 2 once, at QoS 1 the same may come again,
// but what comes for the first time comes in the order of its topic and QoS.
type arrivals struct {
	t       testing.TB
	repeats bool                     // at QoS 2 too: the publisher forgets what it was told
	missing map[flow][]message       // in order; a flow with nothing missing is not in it
	seen    map[flow]map[string]bool // the payloads
}

// flow is what has an order.
type flow struct {
	topic string
	qos   byte
}

func newArrivals(t testing.TB, batches ...[]message) *arrivals {
	a := &arrivals{t: t, missing: map[flow][]message{}, seen: map[flow]map[string]bool{}}
	for _, batch := range batches {
		for _, m := range batch {
			f := flow{m.Topic, m.QoS}
			a.missing[f] = append(a.missing[f], m)
			a.seen[f] = map[string]bool{}
		}
	}
	return a
}

func (a *arrivals) add(m message) {
	a.t.Helper()
	f := flow{m.Topic, m.QoS}
	switch due := a.missing[f]; {
	case a.seen[f][m.Payload] && (m.QoS == 1 || a.repeats):
	case a.seen[f][m.Payload]:
		a.t.Fatalf("came again: %s", describe(m))
	case len(due) == 0:
		a.t.Fatalf("nobody has published: %s", describe(m))
	default:
		compare(a.t, 0, m, due[0])
		a.seen[f][m.Payload] = true
		if a.missing[f] = due[1:]; len(due) == 1 {
			delete(a.missing, f)
		}
	}
}

func (a *arrivals) expectComplete() {
	a.t.Helper()
	for _, due := range a.missing {
		a.t.Errorf("%d messages are missing, the first is %s", len(due), describe(due[0]))
	}
}
