package wire

import (
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// validPackets has every packet type, also those that only a server sends, and every field of each, in the notation of
// the scripts.
var validPackets = []string{
	`CONNECT`,
	`CONNECT clean-start=true keep-alive=60 username=u password=p will-topic=w will-payload=gone will-qos=1 will-retain`,
	`[5.0] CONNECT password=p expiry=5 receive-maximum=10 max-packet=1000 topic-alias-maximum=9 request-response=true ` +
		`request-problem=false user=(k:v, k:"")`,
	`[5.0] CONNECT auth-method=m auth-data=hex:00ff`,
	`[5.0] CONNECT will-topic=w will-qos=2 will-delay=5 will-payload-format=1 will-message-expiry=9 will-content-type=c ` +
		`will-response-topic=r will-correlation=hex:00 will-user=(k:v)`,
	`CONNACK session-present=true`,
	`[5.0] CONNACK reason=0x87 expiry=1 receive-maximum=2 maximum-qos=1 retain-available=false max-packet=3 assigned=x ` +
		`topic-alias-maximum=4 reason-string=r user=(k:v) wildcards-available=true identifiers-available=true ` +
		`shared-available=false keep-alive=5 response-information=i server-reference=s auth-method=m auth-data=hex:01`,
	`PUBLISH topic=a/b payload=hello`,
	`PUBLISH topic=a/b retain`,
	`PUBLISH id=1 topic=a/b qos=1 payload=hello`,
	`PUBLISH id=258 topic=a/b qos=2 dup payload=hello`,
	`PUBLISH topic=a payload="x"*200`,
	`[5.0] PUBLISH id=1 topic=a qos=1 payload=x payload-format=1 message-expiry=9 content-type=c response-topic=r ` +
		`correlation=hex:00ff user=(k:v, "":"")`,
	`[5.0] PUBLISH topic=a topic-alias=1 payload=x`,
	`[5.0] PUBLISH topic=a identifiers=[1 268435455]`,
	`PUBACK id=1`, `[5.0] PUBACK id=1 reason=0x10 reason-string=r user=(k:v)`,
	`PUBREC id=1`, `[5.0] PUBREC id=1 reason=0x80 reason-string=r user=(k:v)`,
	`PUBREL id=1`, `[5.0] PUBREL id=1 reason=0x92 reason-string=r user=(k:v)`,
	`PUBCOMP id=1`, `[5.0] PUBCOMP id=1 reason=0x92 reason-string=r user=(k:v)`,
	`SUBSCRIBE id=1 filters=(a/+/b:1, a/#:2, c:0)`,
	`[5.0] SUBSCRIBE id=1 filters=(a/#:1:nl:rap:rh2, $share/g/a:0:rh1) identifier=200 user=(k:v)`,
	`SUBACK id=1 reasons=[0x00 0x02]`, `[5.0] SUBACK id=1 reasons=[0x01 0x87] reason-string=r user=(k:v)`,
	`UNSUBSCRIBE id=1 filters=(a/+/b, c)`, `[5.0] UNSUBSCRIBE id=1 filters=(a) user=(k:v)`,
	`UNSUBACK id=1 reasons=[0x00]`, `[5.0] UNSUBACK id=1 reasons=[0x00 0x11] reason-string=r user=(k:v)`,
	`PINGREQ`,
	`PINGRESP`,
	`DISCONNECT`,
	`[5.0] DISCONNECT reason=0x04 expiry=1 reason-string=r user=(k:v) server-reference=s`,
	`[5.0] AUTH reason=0x18 auth-method=m auth-data=hex:01 reason-string=r user=(k:v)`,
}

// validPacket is a line of the table in one version.
type validPacket struct {
	version mqttcodec.Version
	line    string
	packet  mqttcodec.Packet
	bytes   []byte
}

// eachValidPacket are the packets of the table that a version has.
func eachValidPacket(t *testing.T, v mqttcodec.Version) (list []validPacket) {
	t.Helper()
	p := &player{version: v, unique: "x0"}
	for _, line := range validPackets {
		of5, is5 := strings.CutPrefix(line, "[5.0] ")
		if is5 && v != mqttcodec.V5 {
			continue
		}
		words, err := splitWords(of5)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		packet, err := p.packet(words, "a")
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		b, err := mqttcodec.Append(nil, v, packet)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, validPacket{v, line, packet, b})
	}
	return list
}

// The table is what it says: every packet is valid, and no type and no field is missing.
func TestValidPacketsAreAll(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, v := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
		types := map[mqttcodec.PacketType]bool{}
		for _, valid := range eachValidPacket(t, v) {
			if _, err := mqttcodec.Decode(v, valid.bytes); err != nil {
				t.Errorf("%s, %s: %v", harness.VersionName(v), valid.line, err)
			}
			types[valid.packet.Type()] = true
			for _, f := range fieldsOf(valid.packet) {
				if _, present := f.value(); present {
					named[valid.packet.Type().String()+" "+f.name] = true
				}
			}
		}
		for name, new := range newPackets {
			if !types[new().Type()] && (name != "AUTH" || v == mqttcodec.V5) {
				t.Errorf("%s: no %s", harness.VersionName(v), name)
			}
		}
	}
	for name, new := range newPackets {
		packet := new()
		if connect, ok := packet.(*mqttcodec.Connect); ok {
			connect.Will = &mqttcodec.Will{}
		}
		for _, f := range fieldsOf(packet) {
			if !named[name+" "+f.name] {
				t.Errorf("no %s with %s", name, f.name)
			}
		}
	}
}
