package main

import (
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"sync"
	"time"
)

// kill9: the broker is killed while messages flow; whatever it acknowledged
// must reach the subscribers, those which were connected and those which were
// not, after it is started again.
func (e *Env) kill9() {
	cfg := e.cfg
	if cfg.Start == "" {
		e.fail("kill9 needs -start")
		return
	}
	br, err := startBroker(cfg.Start, cfg.Addr, cfg.DataDir, os.Getenv("BENCH_BROKER_LOG"))
	if err != nil {
		e.fail("%v", err)
		return
	}
	defer func() { br.stop() }()
	e.proc.pid = br.cmd.Process.Pid
	const np, online, total = 4, 2, 4
	f := &flow{e: e}
	var ts []*Topic
	for i := range 2 * np {
		q := byte(min(1+i/np, max(1, cfg.MaxQoS)))
		p := newPub(cid("kp%d", i), q, cfg.Window, 0, cfg.V5)
		p.keep, p.infl = true, map[uint16]inflight{}
		ts = append(ts, p.topic(uint32(i), tname("kill/q%d/%d", q, i), cfg.Size, total))
		f.pubs = append(f.pubs, p)
	}
	sess := make([]*Session, total)
	conns := make([]*Client, total)
	for i := range total {
		f.subs = append(f.subs, newSub(cid("ks%d", i), ts...))
		sess[i] = &Session{}
	}
	subLost, pubLost := 0, 0
	openSub := func(i int, first bool) error {
		c, sp, err := connect(e.opts(f.subs[i].id, false), sess[i])
		if err != nil {
			return err
		}
		c.sub = f.subs[i]
		if !sp {
			if !first {
				subLost++
				sess[i] = &Session{} // as the protocol demands of the client
				c.sess = sess[i]
			}
			if err := c.subscribe(1, tname("kill/q1/+")); err != nil {
				return err
			}
			if cfg.MaxQoS >= 2 {
				if err := c.subscribe(2, tname("kill/q2/+")); err != nil {
					return err
				}
			}
		}
		c.start()
		conns[i] = c
		return nil
	}
	openPub := func(p *Pub, first bool) error {
		c, sp, err := connect(e.opts(p.id, false), nil)
		if err != nil {
			return err
		}
		if !sp && !first {
			pubLost++
		}
		p.resume(c, sp)
		c.start()
		return nil
	}
	check := func(err error) bool {
		if err != nil {
			e.fail("%v", err)
		}
		return err != nil
	}
	for i := range total {
		if check(openSub(i, true)) {
			return
		}
	}
	for i := online; i < total; i++ {
		conns[i].disconnect()
	}
	for _, p := range f.pubs {
		if check(openPub(p, true)) {
			return
		}
	}
	// a ticker feeds the publishers
	quit := make(chan struct{})
	var fed sync.WaitGroup
	fed.Add(1)
	go func() {
		defer fed.Done()
		t := time.NewTicker(10 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
			}
			for _, p := range f.pubs {
				p.mu.Lock()
				if p.c != nil {
					for _, t := range p.topics {
						if t.limit < t.seq+uint64(cfg.Window) {
							t.limit += uint64(max(1, cfg.KillRate/100))
						}
					}
				}
				p.mu.Unlock()
				p.pump()
			}
		}
	}()
	var restart []float64
	t0 := nowNs()
	measuring.Store(true)
	for k := range cfg.Kills {
		time.Sleep(cfg.Dur / 4)
		var all []*Client
		for i := range online {
			all = append(all, conns[i])
		}
		for _, p := range f.pubs {
			p.mu.Lock()
			if p.c != nil {
				all = append(all, p.c)
			}
			p.mu.Unlock()
		}
		for _, c := range all {
			c.closing.Store(true)
		}
		br.kill()
		for _, c := range all {
			_ = c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
			<-c.done
			c.nc.Close()
		}
		for _, p := range f.pubs {
			p.mu.Lock()
			p.c = nil
			p.mu.Unlock()
		}
		b := nowNs()
		if br, err = startBroker(cfg.Start, cfg.Addr, cfg.DataDir, os.Getenv("BENCH_BROKER_LOG")); err != nil {
			e.fail("restart %d: %v", k+1, err)
			close(quit)
			fed.Wait()
			br = &Broker{cmd: exec.Command("true"), done: make(chan struct{})}
			os.Exit(emit(e.res))
			return
		}
		restart = append(restart, float64(nowNs()-b)/1e6)
		e.proc.pid = br.cmd.Process.Pid
		for i := range online {
			if check(openSub(i, false)) {
				close(quit)
				return
			}
		}
		for _, p := range f.pubs {
			if check(openPub(p, false)) {
				close(quit)
				return
			}
		}
	}
	time.Sleep(cfg.Dur / 4)
	close(quit)
	fed.Wait()
	for i := online; i < total; i++ {
		if check(openSub(i, false)) {
			return
		}
	}
	// wait: everything sent acknowledged, every acknowledged message received
	missing := func() (n [3]int64) {
		for _, s := range f.subs {
			for _, t := range ts {
				st := s.streams[t.id]
				t.pub.mu.Lock()
				for w, x := range t.acked {
					for ; x != 0; x &= x - 1 {
						b := uint64(w)<<6 + uint64(trailing(x))
						if !st.has(b) {
							n[t.pub.qos]++
						}
					}
				}
				t.pub.mu.Unlock()
			}
		}
		return
	}
	var lastSum int64 = -1
	since := time.Now()
	for {
		var acks int64
		infl := 0
		for _, p := range f.pubs {
			_, _ = p.finished()
			p.mu.Lock()
			infl += p.inflight
			p.mu.Unlock()
			acks += p.ackedN.Load()
		}
		got, _ := f.got()
		if s := acks + got; s != lastSum {
			lastSum, since = s, time.Now()
		}
		quiet := time.Since(since)
		if infl == 0 && quiet > time.Second {
			if m := missing(); m[1]+m[2] == 0 {
				break
			}
		}
		if quiet > cfg.Stall {
			if infl > 0 {
				e.fail("%d messages never acknowledged", infl)
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	measuring.Store(false)
	time.Sleep(cfg.Linger)
	for _, c := range conns {
		c.abort()
	}
	r := e.res
	r.RSSPeak, r.RSSEnd = e.proc.peakRSS(), e.proc.rss()
	for _, p := range f.pubs {
		p.mu.Lock()
		if p.c != nil {
			p.c.closing.Store(true)
			p.c.nc.Close()
			p.c = nil
		}
		p.mu.Unlock()
	}
	m := missing()
	h := &Hist{}
	var dup, ooo, dupOn [3]int64
	var resent int64
	for i, s := range f.subs {
		h.merge(s.hist)
		resent += s.resent
		for _, st := range s.streams {
			dup[st.t.pub.qos] += st.dup
			ooo[st.t.pub.qos] += st.ooo
			if i < online {
				dupOn[st.t.pub.qos] += st.dup
			}
		}
		r.Foreign += s.foreign
		if s.sample != "" {
			e.fail("%s: %s", s.id, s.sample)
		}
	}
	var sent, acked, dropped int64
	for _, p := range f.pubs {
		s, _ := p.expected()
		sent += s
		acked += p.ackedN.Load()
		dropped += p.dropped
	}
	r.Published = acked
	r.Delivered, _ = f.got()
	r.Seconds = float64(nowNs()-t0) / 1e9
	r.Lost, r.Dup, r.OOO = m[1]+m[2], dup[1]+dup[2], ooo[1]+ooo[2]
	e.extra("sent", float64(sent))
	e.extra("acked", float64(acked))
	e.extra("lost_q1", float64(m[1]))
	e.extra("lost_q2", float64(m[2]))
	e.extra("dup_q1", float64(dup[1]))
	e.extra("dup_q2", float64(dup[2]))
	e.extra("dup_q1_online", float64(dupOn[1]))
	e.extra("dup_q2_online", float64(dupOn[2]))
	e.extra("ooo_q1", float64(ooo[1]))
	e.extra("ooo_q2", float64(ooo[2]))
	e.extra("q2_same_id_resent", float64(resent))
	e.extra("subscriber_sessions_lost", float64(subLost))
	e.extra("publisher_sessions_lost", float64(pubLost))
	e.extra("unacked_given_up", float64(dropped))
	for i, x := range restart {
		e.extra(fmt.Sprintf("restart%d_ms", i+1), x)
	}
	if m[1] > 0 {
		e.fail("%d QoS 1 deliveries of acknowledged messages lost", m[1])
	}
	if m[2] > 0 {
		e.fail("%d QoS 2 deliveries of acknowledged messages lost", m[2])
	}
	if dup[2] > 0 {
		e.fail("%d QoS 2 messages delivered twice", dup[2])
	}
	if subLost > 0 {
		e.fail("%d subscriber sessions lost over %d kills", subLost, cfg.Kills)
	}
	if pubLost > 0 {
		e.fail("%d publisher sessions lost over %d kills", pubLost, cfg.Kills)
	}
}

// trailing is the place of the lowest bit that is set.
func trailing(x uint64) int { return bits.TrailingZeros64(x) }
