// Package mqttcodec turns bytes into MQTT packets and packets into bytes, for MQTT 3.1, 3.1.1 and 5.0.
//
// All three versions share one packet model, in the terms of 5.0: the codec translates the older ones. It owns what
// can be judged from one packet alone: layout, flags, UTF-8, properties and reason codes. It knows nothing of
// connections, sessions or what came before: topic aliases, packet identifiers in use and permissions are the caller's.
//
//	         FrameLength            Decode, CheckFromClient
//	bytes ───────────────► frame ───────────────────────────► Packet
//	bytes ◄──────────────────────────────────────────────────
//	                        Append, Size
//
// A server's loop reads into a buffer of its own:
//
//	n, err := mqttcodec.FrameLength(buffered, maxPacket) // refuses a packet that is too large before its body is there
//	if n == 0 || len(buffered) < n {
//		// read more
//	}
//	p, err := mqttcodec.Decode(version, buffered[:n:n]) // p aliases the frame: never write to these bytes again
//	err = mqttcodec.CheckFromClient(p)
//
// Clients and tests use a Reader.
//
// What a peer sends wrong is a *ProtocolError with the reason code for the wire: 0x81 for bytes that have no meaning
// (layout, UTF-8, reserved bits, a property that does not belong), 0x82 for values that are readable and forbidden.
// Bare clause numbers are those of 5.0; those of 3.1.1 begin with the version.
//
// Topic names are checked by Decode. Topic filters are checked for UTF-8, U+0000 and length only: where wildcards and
// share names stand is ValidateTopicFilter's, so that a SUBSCRIBE with one bad filter gets a SUBACK for each.
//
// To test: go test ./mqttcodec; go test -fuzz FuzzDecode ./mqttcodec. The tests compare with two codecs of
// other authors, in both directions, and with the packet tables of a third.
package mqttcodec
