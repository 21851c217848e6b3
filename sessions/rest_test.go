package sessions

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// A session that rests is, when its client is back, what its documents say; one with more to it is read from them.
func TestRestIsWhatTheDocumentsSay(t *testing.T) {
	cfg := DefaultConfig("boot1")
	cfg.PermissionsOf = func(principal, clientID string) Permissions { return named{name: principal + " " + clientID} }
	record, _, _ := strings.Cut(recordExample, `"will"`)
	record = strings.TrimRight(record, ", \n\t")
	subscription := `{"filter": "%s", "qos": 1, "since": {"sequence": 60}}`
	more := func(n int) string {
		list := ""
		for i := range n {
			list += ", " + fmt.Sprintf(subscription, fmt.Sprint("more/", i))
		}
		return strings.TrimSuffix(record, "]") + list + "]}"
	}
	journal := New(&cfg, "c", Stored{})
	journal.incarnation, journal.looked, journal.generation = "n1", at(100), 7
	journal.ids.setNext(77)
	plain := journal.appendJournal(nil)
	journal.inbound = map[uint16]*inboundMessage{1: {generation: 7, stored: true}}
	receives := journal.appendJournal(nil)
	journal.inbound, journal.inflight = nil, []outbound{{packetID: 5, qos: 1, entry: Entry{Position: at(99)}}}
	sends := journal.appendJournal(nil)

	for name, test := range map[string]struct {
		record  string
		journal []byte
		rests   bool
	}{
		"not journaled":            {more(0), nil, true},
		"journaled":                {more(0), plain, true},
		"with a shared one":        {strings.Replace(more(1), "more/0", "$share/g/more/0", 1), plain, true},
		"with as many as may rest": {more(maxResting - 2), plain, true},
		"with many subscriptions":  {more(maxResting - 1), plain, false},
		"with a will":              {recordExample, plain, false},
		"of another boot":          {strings.Replace(more(0), "boot1", "boot2", 1), plain, false},
		"that receives a QoS 2":    {more(0), receives, false},
		"with a delivery":          {more(0), sends, false},
	} {
		stored := Stored{ClientID: "c", Record: []byte(test.record), RecordRevision: 3, Journal: test.journal, JournalRevision: 4}
		restore := func() *Session {
			s, err := Restore(&cfg, stored, Recovery{Now: start})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return s
		}
		rest := restore().Rest()
		if (rest != nil) != test.rests {
			t.Errorf("%s: rests: %v", name, rest != nil)
		}
		if rest == nil {
			continue
		}
		want := restore()
		filters, after := rest.Queue(&cfg)
		if !reflect.DeepEqual(filters, want.QueuedFilters()) || after != want.Position() {
			t.Errorf("%s: the queue has %v after %v, want %v after %v", name, filters, after, want.QueuedFilters(), want.Position())
		}
		if s := rest.Session(&cfg, "c"); !reflect.DeepEqual(s, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, s, want)
		}
	}
	if New(&cfg, "c", Stored{}).Rest() != nil {
		t.Error("a session that is not there rests")
	}
}

// named are permissions that allow everything, and can be told apart.
type named struct {
	Permissions
	name string
}
