package main

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a broker with exact-match topics only, which can misbehave on purpose.
type fake struct {
	mu   sync.Mutex
	subs map[string][]*fconn
	n    int
	evil string
	held []byte
}

type fconn struct {
	mu  sync.Mutex
	nc  net.Conn
	qos byte
	pid uint16
}

func (c *fconn) write(b []byte) { c.mu.Lock(); _, _ = c.nc.Write(b); c.mu.Unlock() }

func (f *fake) serve(nc *net.TCPConn) {
	defer nc.Close()
	c := &Client{nc: nc, rb: make([]byte, 4096)}
	me := &fconn{nc: nc}
	for {
		// decode by hand what a server receives
		for c.re-c.rs < 2 {
			if c.fill() != nil {
				return
			}
		}
		var pk Packet
		typ := c.rb[c.rs] >> 4
		if typ == tCONNECT || typ == tSUBSCRIBE {
			rl, n := uvarint(c.rb[c.rs+1 : c.re])
			for n == 0 || c.re-c.rs < 1+n+rl {
				if c.fill() != nil {
					return
				}
				rl, n = uvarint(c.rb[c.rs+1 : c.re])
			}
			v := c.rb[c.rs+1+n : c.rs+1+n+rl]
			c.rs += 1 + n + rl
			if typ == tCONNECT {
				me.write([]byte{tCONNACK << 4, 2, 0, 0})
				continue
			}
			tl := int(v[2])<<8 | int(v[3])
			me.qos = v[4+tl]
			f.mu.Lock()
			f.subs[string(v[4:4+tl])] = append(f.subs[string(v[4:4+tl])], me)
			f.mu.Unlock()
			me.write([]byte{tSUBACK << 4, 3, v[0], v[1], me.qos})
			continue
		}
		if c.readOne(&pk) != nil {
			return
		}
		switch pk.typ {
		case tPUBLISH:
			q := pk.flags >> 1 & 3
			switch q {
			case 1:
				me.write([]byte{tPUBACK << 4, 2, byte(pk.pid >> 8), byte(pk.pid)})
			case 2:
				me.write([]byte{tPUBREC << 4, 2, byte(pk.pid >> 8), byte(pk.pid)})
			}
			f.mu.Lock()
			f.n++
			for _, s := range f.subs[string(pk.topic)] {
				s.mu.Lock()
				s.pid++
				pid := s.pid
				s.mu.Unlock()
				rl := 2 + len(pk.topic) + len(pk.payload)
				if q > 0 {
					rl += 2
				}
				b := putStr(putRL([]byte{tPUBLISH<<4 | q<<1}, rl), string(pk.topic))
				if q > 0 {
					b = append(b, byte(pid>>8), byte(pid))
				}
				b = append(b, pk.payload...)
				evil := ""
				if f.n == 50 {
					evil = f.evil
				}
				switch evil {
				case "drop":
				case "twice":
					s.write(b)
					b2 := append([]byte(nil), b...)
					if q > 0 {
						b2[len(b2)-len(pk.payload)-1] ^= 0x80
						b2[len(b2)-len(pk.payload)-2] ^= 0x40
					}
					s.write(b2)
				case "swap":
					f.held = b
				case "alter":
					b[len(b)-1] ^= 1
					s.write(b)
				default:
					s.write(b)
					if f.held != nil {
						s.write(f.held)
						f.held = nil
					}
				}
			}
			f.mu.Unlock()
		case tPUBREL:
			me.write([]byte{tPUBCOMP << 4, 2, byte(pk.pid >> 8), byte(pk.pid)})
		case tPUBREC:
			me.write([]byte{tPUBREL<<4 | 2, 2, byte(pk.pid >> 8), byte(pk.pid)})
		case tDISCONNECT:
			return
		}
	}
}

func TestDetection(t *testing.T) {
	for _, evil := range []string{"", "drop", "twice", "swap", "alter"} {
		for _, sc := range []string{"qos0-pairs", "qos1-pairs", "qos2-pairs", "qos1-fanout"} {
			t.Run(sc+"/"+evil, func(t *testing.T) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				f := &fake{subs: map[string][]*fconn{}, evil: evil}
				go func() {
					for {
						nc, err := ln.Accept()
						if err != nil {
							return
						}
						go f.serve(nc.(*net.TCPConn))
					}
				}()
				connErrs = errList{}
				cfg := &Config{
					Addr: ln.Addr().String(), Scenario: sc, Size: 64, Count: 300, Pairs: 1, Window: 16,
					Subs: 1, Warm: 10, Stall: 400 * time.Millisecond, Linger: 30 * time.Millisecond,
				}
				r := runScenario(cfg, "fake")
				got := strings.Join(r.Errors, "; ")
				want := map[string]string{"": "", "drop": "lost", "twice": "twice", "swap": "out of order", "alter": "altered"}[evil]
				if (want == "") != r.OK || !strings.Contains(got, want) {
					t.Fatalf("ok %v, errors %q; want %q", r.OK, got, want)
				}
				if evil == "" && (r.Delivered != 300 || r.Published != 300) {
					t.Fatalf("%d published, %d delivered", r.Published, r.Delivered)
				}
			})
		}
	}
}

func TestHist(t *testing.T) {
	h := &Hist{}
	for i := int64(1); i <= 100000; i++ {
		h.add(i * 1000)
	}
	for _, x := range []struct{ q, ms float64 }{{.5, 50}, {.99, 99}, {.999, 99.9}, {1, 100}} {
		if g := h.q(x.q); g < x.ms*.98 || g > x.ms*1.02 {
			t.Errorf("quantile %v: %v, want about %v", x.q, g, x.ms)
		}
	}
}
