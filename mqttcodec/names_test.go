package mqttcodec

import (
	"slices"
	"testing"
)

// Every reason code that DISCONNECT may carry has a name of its own.
func TestDisconnectNames(t *testing.T) {
	codes := slices.Concat(anyDisconnectReasons, clientDisconnectReasons, serverDisconnectReasons)
	names := map[string]ReasonCode{}
	for _, c := range codes {
		name := disconnectNames[c]
		if other, taken := names[name]; taken || name == "" {
			t.Errorf("%#02x is called %q, as is %#02x", byte(c), name, byte(other))
		}
		names[name] = c
	}
	if len(disconnectNames) != len(codes) {
		t.Errorf("%d names for %d codes", len(disconnectNames), len(codes))
	}
	if got := ServerUnavailable.DisconnectName(); got != "unspecified_error" {
		t.Errorf("a code that DISCONNECT cannot carry is called %q", got)
	}
}
