package sessions

import (
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
)

// Requests that a client does not answer take little memory, however long their topics are.
func TestRequestsOfAConnectionAreBounded(t *testing.T) {
	s := &Session{cfg: &Config{RequestTimeout: time.Minute}, version: mqttcodec.V5}
	now := time.Now()
	dropped := uint64(0)
	for i := range 3 * maxRequested {
		topic := "a"
		if i >= 2*maxRequested {
			topic = strings.Repeat("a", 60_000)
		}
		m := &Message{Topic: topic, PublishedAt: now, Properties: mqttcodec.MessageProperties{ResponseTopic: ReplyTopic(strings.Repeat("t", i))}}
		for _, e := range s.noteRequest(now, m, nil) {
			if d, ok := e.(Drop); ok && d.Reason == DropRequestsFull {
				dropped += d.Count
			}
		}
		if len(s.requested) > maxRequested {
			t.Fatalf("%d requests wait", len(s.requested))
		}
	}
	if n := len(s.requested); n != maxRequestedBytes/60_000 || dropped != uint64(3*maxRequested-n) {
		t.Errorf("%d requests wait, %d were dropped", n, dropped)
	}
}

func TestMemoryOfAMessageCountsItsProperties(t *testing.T) {
	m := &Message{Topic: "ab", Payload: []byte("cde")}
	if n := m.Memory(); n != 5 {
		t.Errorf("%d bytes", n)
	}
	m.Properties = mqttcodec.MessageProperties{
		ContentType: mqttcodec.Some("x"), ResponseTopic: "yy", CorrelationData: []byte("zzz"),
		UserProperties: make([]mqttcodec.UserProperty, 1000), // empty ones, 5 bytes each on the wire
	}
	if n := m.Memory(); n != 5+6+1000*32 {
		t.Errorf("%d bytes with properties", n)
	}
}
