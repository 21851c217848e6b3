// Package wire plays conversations with a live broker, packet by packet and byte by byte. A conversation is a script:
// testdata/<area>/<name>.txt, whose head comment says what it claims and cites the clauses.
//
//	# A second CONNECT on a connection is a protocol error. [MQTT-3.1.0-2] [3.1.1 MQTT-3.1.0-2]
//	versions 3.1 3.1.1 5.0
//
//	a> CONNECT clean-start=true
//	a< CONNACK session-present=false reason=0x00
//	a> CONNECT clean-start=true
//	[5.0] a< DISCONNECT reason=0x82
//	a< closed
//
// It is played once for each version, all scripts in parallel, on one broker: names are kept apart by $a, $t1 (one lower
// case letter, digits), which stand for letters and digits that no other script has. Whatever comes must be what the next
// line says, at the end nothing more may come: the error names the line and shows the packet, as text and in hex.
//
// # Head
//
//	versions 3.1.1 5.0                 the versions to play it in
//	broker own                         a broker for this script alone
//	broker set limits.max_packet=64KiB the same, configured
//
// A line that starts with [5.0] or [3.1 3.1.1] is played in those versions only.
//
// # Sending
//
//	a> CONNECT id=$a expiry=60         a's connection is opened when there is none; id is $a when absent
//	a> CONNECT ; PINGREQ ; DISCONNECT  in one segment
//	a> hex 82 06 12 34 00 00 01 "p"    bytes as they stand; "text", s"text" with its length before it, 00*300
//	a> frame 10 s"MQTT" 05 02 00 3c {11 00 00 00 0a} s"$a"   the Remaining Length is filled in; {…} gets its length too
//	a> first 5 of PUBLISH topic=$t     half sent
//	a> rest                            the other half
//
// The fields of a packet are listed in fieldsOf; properties that a version does not have are left out. Values are bare,
// "quoted" as in Go, hex:00ff, or repeated: "x"*65535. Lists: filters=($t/#:1:nl:rap:rh2, "a b":0) reasons=[0x00 0x87]
// user=(key:value, key:other)*100.
//
// # Receiving
//
//	b< PUBLISH topic=$t qos=1 !content-type   the next packet; only what is named is compared; !name must be absent
//	b< PUBLISH id=?p message-expiry=5..9      ${p} is the identifier from now on; a number within bounds
//	b< hex 20 02 00 00                        the bytes
//	b< nothing                                PINGREQ, and the next packet is PINGRESP
//	b< closed                                 the end, and nothing before it
//	b< closed @1.4s..3s                       the time since the last clock line; after any receiving line
//	b< unordered {                            these, in any order
//	  PUBACK id=1
//	  PUBLISH topic=$t
//	}
//
// # Doing
//
//	a dial                        connects, and sends nothing
//	a apart                       each byte that a sends from now on is a segment of its own
//	a connect keep-alive=5        CONNECT with clean start, and CONNACK
//	a subscribe filters=($t:1)    SUBSCRIBE, granted as asked
//	a unsubscribe filters=($t)    UNSUBSCRIBE and UNSUBACK
//	a publish topic=$t qos=2      PUBLISH and the whole exchange
//	a ack                         the whole answer to the last message that came
//	a disconnect                  DISCONNECT, and the broker closes
//	a drop                        leaves without DISCONNECT; goes on when the broker has noticed
//	a reset                       RST, as when the client's machine died
//	clock                         sets the clock
//	after 1.5s                    time passes, in the few scripts that are about time
//	repeat 10 {                   until }; ${i} counts from 1
//	broker restart kill9          or sigterm: down and up. The connections are gone
//	broker down sigterm           what it said at the end can still be received
//	broker up
//	wait until log "text"         until the broker has logged it
//
// A name may connect again once its connection is closed, disconnected, dropped or reset.
package wire
