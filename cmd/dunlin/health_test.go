package main

import (
	"net"
	"strings"
	"testing"

	"dunlin/mqttcodec"
)

// answering is the address of a listener that takes one client's CONNECT and answers with these bytes. What the client sends
// afterwards comes on the channel, which is closed when it leaves.
func answering(t *testing.T, answer []byte) (address string, sent <-chan mqttcodec.Packet) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	packets := make(chan mqttcodec.Packet, 8)
	go func() {
		defer close(packets)
		connection, err := l.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		reader := mqttcodec.NewReader(connection, mqttcodec.V5, 0)
		for {
			p, err := reader.ReadPacket()
			if err != nil {
				return
			}
			packets <- p
			if p.Type() == mqttcodec.TypeConnect {
				_, _ = connection.Write(answer)
			}
		}
	}()
	return l.Addr().String(), packets
}

func connack(t *testing.T, reason mqttcodec.ReasonCode) []byte {
	t.Helper()
	frame, err := mqttcodec.Append(nil, mqttcodec.V5, &mqttcodec.Connack{Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestHealthTakesAnyConnackForAlive(t *testing.T) {
	for reason, says := range map[mqttcodec.ReasonCode]string{
		mqttcodec.Success:           "CONNACK 0x00, accepted",
		mqttcodec.NotAuthorized:     "CONNACK 0x87, refused",
		mqttcodec.ServerUnavailable: "CONNACK 0x88, refused",
	} {
		address, _ := answering(t, connack(t, reason))
		code, stdout, stderr := runLine(t, "health", "--mqtt", address)
		if want := "the broker at " + address + " answers: " + says + "\n"; code != 0 || stdout != want || stderr != "" {
			t.Errorf("exit code %d, stdout %q, stderr %q, want 0 and %q", code, stdout, stderr, want)
		}
	}
}

// A broker keeps nothing of the question: no session, and no client identifier that looks like a device's.
func TestHealthLeavesNothingBehind(t *testing.T) {
	address, sent := answering(t, connack(t, mqttcodec.Success))
	if code, _, stderr := runLine(t, "health", "--mqtt", address); code != 0 {
		t.Fatal(stderr)
	}
	connect, ok := (<-sent).(*mqttcodec.Connect)
	if !ok || !connect.CleanStart || connect.ClientID != "" || connect.Will != nil || connect.Properties.SessionExpirySeconds.Or(0) != 0 {
		t.Errorf("CONNECT %+v, want a clean start without client identifier, will or expiry", connect)
	}
	if disconnect, ok := (<-sent).(*mqttcodec.Disconnect); !ok || disconnect.Reason != mqttcodec.NormalDisconnection {
		t.Errorf("then %+v, want a normal DISCONNECT", disconnect)
	}
}

func TestHealthFailsWithoutConnack(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	_ = free.Close()
	silent, _ := answering(t, nil)
	notMQTT, _ := answering(t, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	other, _ := answering(t, []byte{0xD0, 0x00})
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"nobody", []string{"--mqtt", nobody}, []string{nobody, "refused", "--mqtt"}},
		{"silence", []string{"--mqtt", silent, "--timeout", "50ms"}, []string{silent, "nothing within 50ms"}},
		{"another protocol", []string{"--mqtt", notMQTT}, []string{notMQTT, "reserved flags"}},
		{"another packet", []string{"--mqtt", other}, []string{other, "PINGRESP instead of CONNACK"}},
		{"no address", []string{"--mqtt", "1883"}, []string{`"1883"`, "flag --mqtt", "host:port"}},
		{"no time", []string{"--timeout", "0s"}, []string{"timeout 0s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runLine(t, append([]string{"health"}, c.args...)...)
			if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and one line on stderr", code, stdout, stderr)
			}
			for _, part := range c.says {
				if !strings.Contains(stderr, part) {
					t.Errorf("stderr does not say %q: %s", part, stderr)
				}
			}
		})
	}
}

// In a container serve has flags that health does not see, such as --allow-anonymous; listeners.mqtt comes from the same sources.
func TestHealthLooksWhereTheConfigurationSays(t *testing.T) {
	address, _ := answering(t, connack(t, mqttcodec.Success))
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	everywhere := "0.0.0.0:" + port
	if code, _, stderr := runLine(t, "health", "--config", configFile(t, "listeners: {mqtt: \""+everywhere+"\"}\n")); code != 0 {
		t.Errorf("of the file: %s", stderr)
	}
	address, _ = answering(t, connack(t, mqttcodec.Success))
	t.Setenv("DUNLIN_LISTENERS__MQTT", address)
	if code, stdout, stderr := runLine(t, "health"); code != 0 || !strings.Contains(stdout, address) {
		t.Errorf("of the variable: %s%s", stdout, stderr)
	}
	address, _ = answering(t, connack(t, mqttcodec.Success))
	if code, stdout, stderr := runLine(t, "health", "--mqtt", address); code != 0 || !strings.Contains(stdout, address) {
		t.Errorf("of the flag: %s%s", stdout, stderr)
	}
}

func TestHealthOfABroker(t *testing.T) {
	at := startTestBroker(t, testConfig(t)).Addresses()
	if code, stdout, stderr := runLine(t, "health", "--mqtt", at.MQTT); code != 0 || !strings.Contains(stdout, "CONNACK 0x00, accepted") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
