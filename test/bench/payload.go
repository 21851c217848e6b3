package main

import (
	"encoding/binary"
)

// The payload starts with a header: magic, run, stream, sequence number, time of sending.
const (
	hdrLen = 32
	magic  = 0x6d71626e
)

// putHdr writes the header of a payload.
func putHdr(b []byte, run, stream uint32, seq uint64, ts int64) {
	binary.BigEndian.PutUint32(b[0:], magic)
	binary.BigEndian.PutUint32(b[4:], run)
	binary.BigEndian.PutUint32(b[8:], stream)
	binary.BigEndian.PutUint32(b[12:], 0)
	binary.BigEndian.PutUint64(b[16:], seq)
	binary.BigEndian.PutUint64(b[24:], uint64(ts))
}

// tailByte ends each payload, so that one that was cut is noticed.
const tailByte = 0xA7
