package wire

import (
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A script that is no script, or that does not come out, fails and says where.
func TestScriptsFail(t *testing.T) {
	t.Parallel()
	shared := harness.Start(t)
	for _, c := range []struct{ name, script, want string }{
		{"no versions", "a connect", "names no versions"},
		{"unknown version", "versions 4", `s:1: versions 4`},
		{"open block", "versions 5.0\nrepeat 2 {\na dial", "not closed"},
		{"open quote", "versions 5.0\na> PUBLISH topic=\"", "s:2"},
		{"unknown packet", "versions 5.0\na> CONECT", `s:2: a> CONECT`},
		{"unknown field", "versions 5.0\na> CONNECT colour=red", `no field "colour"`},
		{"number too large", "versions 5.0\na> CONNECT keep-alive=65536", "too large"},
		{"no identifier", "versions 5.0\na> SUBSCRIBE filters=(a)", "no id"},
		{"unknown value", "versions 5.0\na> CONNECT username=${x}", "no value yet"},
		{"unknown action", "versions 5.0\na dial\na dances", "s:3"},
		{"restart of all scripts' broker", "versions 5.0\nbroker restart kill9", "broker own"},
		{"another packet", "versions 5.0\na connect\na> PINGREQ\na< PUBACK id=1", "s:4: a< PUBACK id=1\n\twant PUBACK\n\tgot  PINGRESP\n\td0 00"},
		{"another value", "versions 5.0\na> CONNECT clean-start=true\na< CONNACK session-present=true", "want session-present=true"},
		{"present", "versions 5.0\na> CONNECT clean-start=true\na< CONNACK !receive-maximum", "want no receive-maximum, got 1024"},
		{"absent", "versions 5.0\na> CONNECT clean-start=true\na< CONNACK assigned=?x", "want a assigned, there is none"},
		{"out of bounds", "versions 5.0\na> CONNECT clean-start=true\na< CONNACK receive-maximum=1..10", "want receive-maximum=1..10"},
		{"too early", "versions 5.0\na connect\nclock\na> PINGREQ\na< PINGRESP @1s..2s", "after the clock was set"},
		{"other bytes", "versions 5.0\na connect\na> PINGREQ\na< hex d0 01", "want d001"},
		{"something", "versions 5.0\na connect\nb connect id=$a\na< nothing", "got  DISCONNECT"},
		{"something left", "versions 5.0\na connect\nb connect id=$a", "at the end of the script, connection a: got  DISCONNECT"},
		{"more than closed", "versions 5.0\na connect\na> PINGREQ ; DISCONNECT\na< closed", "got  PINGRESP"},
		{"none of them", "versions 5.0\na connect\na> PINGREQ ; PINGREQ\na< unordered {\nPINGRESP\nPUBACK id=1\n}", "is none of those to come: s:6"},
		{"nobody", "versions 5.0\na< closed", "a is not connected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := parseScript("s", c.script)
			if err == nil {
				err = playFor(t, s, mqttcodec.V5, shared, false)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %q in it", err, c.want)
			}
		})
	}
}

// What a script writes reaches the wire as it says.
func TestScriptBytes(t *testing.T) {
	t.Parallel()
	p := &player{version: mqttcodec.V5, unique: "x1", values: map[string]string{"v": "42"}}
	for line, want := range map[string]string{
		`hex 01 "ab" s"c" 00*3`:                          "\x01ab\x00\x01c\x00\x00\x00",
		`hex "$a ${v} $SYS $share/g/$t" "x\x00"*2`:       "ax1 42 $SYS $share/g/tx1x\x00x\x00",
		`frame 10 s"MQTT" {11 00 00 00 0a {}} ff`:        "\x10\x0e\x00\x04MQTT\x06\x11\x00\x00\x00\x0a\x00\xff",
		`frame 30 00*128`:                                "\x30\x80\x01" + strings.Repeat("\x00", 128),
		`PINGREQ ; PUBACK id=0x102 ; PINGREQ`:            "\xc0\x00\x40\x02\x01\x02\xc0\x00",
		`PUBLISH topic=$t qos=1 retain id=${v} dup`:      "\x3b\x08\x00\x03tx1\x00\x2a\x00",
		`PUBLISH topic="a b" payload=hex:00ff`:           "\x30\x08\x00\x03a b\x00\x00\xff",
		`PUBLISH topic=a user=(k:v, "k:":"v,")*2`:        "\x30\x24\x00\x01a\x20\x26\x00\x01k\x00\x01v\x26\x00\x02k:\x00\x02v,\x26\x00\x01k\x00\x01v\x26\x00\x02k:\x00\x02v,",
		`SUBSCRIBE id=1 filters=(a/#:1:nl:rap:rh2, "b")`: "\x82\x0d\x00\x01\x00\x00\x03a/#\x2d\x00\x01b\x00",
	} {
		words, err := splitWords(line)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.bytesOf(&connection{name: "a", version: p.version}, words)
		if err != nil || string(got) != want {
			t.Errorf("%s\ngot  % x, %v\nwant % x", line, got, err, want)
		}
	}
}
