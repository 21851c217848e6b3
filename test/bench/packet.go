package main

import (
	"errors"
)

const (
	tCONNECT = 1 + iota
	tCONNACK
	tPUBLISH
	tPUBACK
	tPUBREC
	tPUBREL
	tPUBCOMP
	tSUBSCRIBE
	tSUBACK
	tUNSUBSCRIBE
	tUNSUBACK
	tPINGREQ
	tPINGRESP
	tDISCONNECT
)

// Packet is one decoded packet; its slices point into the read buffer.
type Packet struct {
	typ, flags byte
	topic      []byte
	payload    []byte
	pid        uint16
	code       byte
	sp         bool
	recvMax    int
	codes      []byte
}

var errProto = errors.New("malformed packet from the broker")

// next decodes one packet out of the buffer; false when it holds no whole one.
func (c *Client) next(pk *Packet) (bool, error) {
	b := c.rb[c.rs:c.re]
	if len(b) < 2 {
		return false, nil
	}
	rl, sh, i := 0, 0, 1
	for {
		if i >= len(b) {
			return false, nil
		}
		x := b[i]
		i++
		rl |= int(x&127) << sh
		if x < 128 {
			break
		}
		sh += 7
		if sh > 21 {
			return false, errProto
		}
	}
	if len(b) < i+rl {
		return false, nil
	}
	c.rs += i + rl
	pk.typ, pk.flags = b[0]>>4, b[0]&15
	v := b[i : i+rl]
	switch pk.typ {
	case tPUBLISH:
		if len(v) < 2 {
			return false, errProto
		}
		tl := int(v[0])<<8 | int(v[1])
		if len(v) < 2+tl {
			return false, errProto
		}
		pk.topic = v[2 : 2+tl]
		v = v[2+tl:]
		pk.pid = 0
		if pk.flags&6 != 0 {
			if len(v) < 2 {
				return false, errProto
			}
			pk.pid = uint16(v[0])<<8 | uint16(v[1])
			if pk.pid == 0 {
				return false, errProto
			}
			v = v[2:]
		}
		if c.v5 {
			pl, n := uvarint(v)
			if n == 0 || len(v) < n+pl {
				return false, errProto
			}
			v = v[n+pl:]
		}
		pk.payload = v
	case tPUBACK, tPUBREC, tPUBREL, tPUBCOMP:
		if len(v) < 2 {
			return false, errProto
		}
		pk.pid = uint16(v[0])<<8 | uint16(v[1])
		pk.code = 0
		if len(v) > 2 {
			pk.code = v[2]
		}
	case tCONNACK:
		if len(v) < 2 {
			return false, errProto
		}
		pk.sp, pk.code, pk.recvMax = v[0]&1 != 0, v[1], 0
		if c.v5 {
			pk.recvMax = connackRecvMax(v[2:])
		}
	case tSUBACK:
		if len(v) < 3 {
			return false, errProto
		}
		pk.pid = uint16(v[0])<<8 | uint16(v[1])
		v = v[2:]
		if c.v5 {
			pl, n := uvarint(v)
			if n == 0 || len(v) < n+pl {
				return false, errProto
			}
			v = v[n+pl:]
		}
		pk.codes = v
	case tDISCONNECT:
		pk.code = 0
		if len(v) > 0 {
			pk.code = v[0]
		}
	}
	return true, nil
}

// uvarint reads a variable byte integer; n is 0 when it is not complete.
func uvarint(b []byte) (v, n int) {
	sh := 0
	for n < len(b) && n < 4 {
		x := b[n]
		n++
		v |= int(x&127) << sh
		if x < 128 {
			return v, n
		}
		sh += 7
	}
	return 0, 0
}

// connackRecvMax finds the receive maximum (0x21) among CONNACK's properties.
func connackRecvMax(b []byte) int {
	pl, n := uvarint(b)
	if n == 0 || len(b) < n+pl {
		return 0
	}
	b = b[n : n+pl]
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		skip := 0
		switch id {
		case 0x21:
			if len(b) < 2 {
				return 0
			}
			return int(b[0])<<8 | int(b[1])
		case 0x11, 0x27:
			skip = 4
		case 0x13, 0x22:
			skip = 2
		case 0x24, 0x25, 0x28, 0x29, 0x2a:
			skip = 1
		case 0x12, 0x1f, 0x1a, 0x1c, 0x15, 0x16:
			if len(b) < 2 {
				return 0
			}
			skip = 2 + (int(b[0])<<8 | int(b[1]))
		case 0x26:
			if len(b) < 2 {
				return 0
			}
			skip = 2 + (int(b[0])<<8 | int(b[1]))
			if len(b) < skip+2 {
				return 0
			}
			skip += 2 + (int(b[skip])<<8 | int(b[skip+1]))
		default:
			return 0
		}
		if len(b) < skip {
			return 0
		}
		b = b[skip:]
	}
	return 0
}

// putRL appends a variable byte integer.
func putRL(b []byte, n int) []byte {
	for n > 127 {
		b = append(b, byte(n&127)|128)
		n >>= 7
	}
	return append(b, byte(n))
}

// putStr appends a UTF-8 encoded string.
func putStr(b []byte, s string) []byte {
	b = append(b, byte(len(s)>>8), byte(len(s)))
	return append(b, s...)
}

// encConnect appends CONNECT.
func encConnect(b []byte, id string, clean bool, keep uint16, v5 bool) []byte {
	b = append(b, tCONNECT<<4)
	var fl byte
	if clean {
		fl = 2
	}
	if !v5 {
		b = putRL(b, 10+2+len(id))
		b = append(b, 0, 4, 'M', 'Q', 'T', 'T', 4, fl, byte(keep>>8), byte(keep))
		return putStr(b, id)
	}
	props := []byte{0}
	if !clean {
		props = []byte{5, 0x11, 0, 1, 0x51, 0x80} // session expiry: one day
	}
	b = putRL(b, 10+len(props)+2+len(id))
	b = append(b, 0, 4, 'M', 'Q', 'T', 'T', 5, fl, byte(keep>>8), byte(keep))
	b = append(b, props...)
	return putStr(b, id)
}

// encSubscribe appends SUBSCRIBE.
func encSubscribe(b []byte, pid uint16, v5 bool, qos byte, filters ...string) []byte {
	rl := 2
	if v5 {
		rl++
	}
	for _, f := range filters {
		rl += 3 + len(f)
	}
	b = append(b, tSUBSCRIBE<<4|2)
	b = putRL(b, rl)
	b = append(b, byte(pid>>8), byte(pid))
	if v5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = putStr(b, f)
		b = append(b, qos)
	}
	return b
}
