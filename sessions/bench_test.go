package sessions

import (
	"fmt"
	"runtime"
	"testing"

	"dunlin/mqttcodec"
)

// connectedSession is a session that has subscribed to a/# at QoS 1 and is fed live, of a client that answers at once.
func connectedSession(tb testing.TB, version mqttcodec.Version) *Session {
	tb.Helper()
	cfg := DefaultConfig("boot1")
	s := New(&cfg, "c", Stored{})
	connect := &mqttcodec.Connect{Version: version, ClientID: "c"}
	if version == mqttcodec.V5 {
		connect.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(3600))
	}
	subscribe := &mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "a/#", Options: mqttcodec.SubscriptionOptions{QoS: 1}}}}
	inputs := []Input{
		Connect{Connection: 1, Packet: connect, Nonce: "n1"},
		PacketReceived{Connection: 1, Packet: subscribe},
	}
	sent := 0
	for revision := uint64(1); len(inputs) > 0; revision++ {
		effects := s.Flush(start, s.Step(start, inputs[0], nil))
		inputs = inputs[1:]
		for _, e := range effects {
			switch e := e.(type) {
			case SaveRecord:
				inputs = append(inputs, RecordSaved{Result{Token: e.Token, Sequence: revision}})
			case SaveJournal:
				inputs = append(inputs, JournalSaved{Result{Token: e.Token, Sequence: revision}})
			case Subscribe:
				inputs = append(inputs, Subscribed{Token: e.Token, Position: at(1), Retained: make([]RetainedPart, 1)})
			case Join:
				inputs = append(inputs, Fetched{Token: e.Token, UpTo: at(1), Live: true})
			case Send:
				sent++
			}
		}
	}
	if sent != 2 { // CONNACK, SUBACK
		tb.Fatalf("%d packets were sent, want 2", sent)
	}
	return s
}

// benchVersions are the protocol versions whose sessions differ.
var benchVersions = map[string]mqttcodec.Version{"v311": mqttcodec.V311, "v5": mqttcodec.V5}

// BenchmarkStepPublishIn is what a session does for a message of its client, with the answer of the log.
func BenchmarkStepPublishIn(b *testing.B) {
	payload := make([]byte, 256)
	for name, version := range benchVersions {
		for _, qos := range []mqttcodec.QoS{0, 1} {
			b.Run(fmt.Sprintf("%s-qos%d", name, qos), func(b *testing.B) {
				s := connectedSession(b, version)
				publish := &mqttcodec.Publish{Topic: "b/c", QoS: qos, PacketID: 1, Payload: payload}
				var effects []Effect
				var sequence uint64
				b.ReportAllocs()
				for b.Loop() {
					effects = s.Step(start, PacketReceived{Connection: 1, Packet: publish}, effects[:0])
					if qos == 0 {
						effects = s.Flush(start, effects)
						continue
					}
					sequence++
					for _, e := range effects {
						if p, ok := e.(Persist); ok {
							effects = s.Step(start, Persisted{[]Result{{Token: p.Token, Sequence: sequence}}}, effects[:0])
							break
						}
					}
					effects = s.Flush(start, effects)
				}
				if qos == 1 && !sends[*mqttcodec.Puback](effects) {
					b.Fatalf("no PUBACK in %v", effects)
				}
			})
		}
	}
}

// BenchmarkStepDeliverOut is what a session does for a message at QoS 1 to its client, with the client's PUBACK.
func BenchmarkStepDeliverOut(b *testing.B) {
	for name, version := range benchVersions {
		b.Run(name, func(b *testing.B) {
			s := connectedSession(b, version)
			message := &Message{Topic: "a/b", QoS: 1, Payload: make([]byte, 256)}
			entries := make([]Entry, 1)
			puback := &mqttcodec.Puback{}
			var effects []Effect
			sequence := uint64(1)
			b.ReportAllocs()
			for b.Loop() {
				sequence++
				entries[0] = Entry{Position: at(sequence), Message: message}
				effects = s.Flush(start, s.Step(start, Delivered{Entries: entries}, effects[:0]))
				for _, e := range effects {
					if send, ok := e.(Send); ok {
						puback.PacketID = send.Packet.(*mqttcodec.Publish).PacketID
					}
				}
				effects = s.Flush(start, s.Step(start, PacketReceived{Connection: 1, Packet: puback}, effects[:0]))
			}
			if s.Pending() != 0 || puback.PacketID == 0 {
				b.Fatalf("%d messages are not acknowledged", s.Pending())
			}
		})
	}
}

// sends reports whether the effects send a packet of a kind.
func sends[P mqttcodec.Packet](effects []Effect) bool {
	for _, e := range effects {
		if send, ok := e.(Send); ok {
			if _, ok := send.Packet.(P); ok {
				return true
			}
		}
	}
	return false
}

// BenchmarkFilterTreeScale matches a topic that one subscription of n wants, and says what a subscription takes.
func BenchmarkFilterTreeScale(b *testing.B) {
	kinds := []struct{ name, filter string }{
		{"exact", "site/%d/device/%d/state"},
		{"plus", "site/+/device/%[2]d/+"},
		{"hash", "site/%d/device/%d/#"},
	}
	for _, kind := range kinds {
		for _, n := range []int{1, 1000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/subscriptions=%d", kind.name, n), func(b *testing.B) {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				tree := &FilterTree[int]{}
				for i := range n {
					tree.Add(fmt.Sprintf(kind.filter, i%1000, i), i)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				topics := make([]string, 1024)
				for i := range topics {
					device := i * 97 % n
					topics[i] = fmt.Sprintf("site/%d/device/%d/state", device%1000, device)
				}
				var found []int
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					if found, _ = tree.MatchAppend(topics[i&1023], found[:0]); len(found) != 1 {
						b.Fatalf("%s matches %v", topics[i&1023], found)
					}
					i++
				}
				if n >= 1000 {
					b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/subscription")
				}
				runtime.KeepAlive(tree)
			})
		}
	}
}
