package sessions

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Every field and every type of an event, and every field of presence, is in the documentation.
func TestEventsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := func(word string) {
		t.Helper()
		if !strings.Contains(string(text), "`"+word+"`") {
			t.Errorf("%s is not documented", word)
		}
	}
	var fields func(of reflect.Type)
	fields = func(of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			if f.Anonymous {
				fields(f.Type.Elem())
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			documented(name)
		}
	}
	fields(reflect.TypeFor[Event]())
	fields(reflect.TypeFor[Presence]())
	for _, kind := range EventKinds {
		documented("dunlin.event." + string(kind))
	}
	for _, reason := range []DropReason{
		DropQueueFull, DropExpired, DropTooLarge, DropSlowConsumer, DropTrimmed, DropNotStored, DropRefused, DropMayNotSend, DropMayNotRead, DropReplaced,
	} {
		documented(string(reason))
	}
}
