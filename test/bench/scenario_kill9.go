package main

import (
	"fmt"
	"math/bits"
	"os"
	"sync"
	"time"
)

// How many clients kill9 has: publishers of each QoS, subscribers, and those of them that are connected.
const (
	killPublishers = 4
	killOnline     = 2
	killTotal      = 4
)

// killRun is a broker that is killed while messages flow; whatever it acknowledged
// must reach the subscribers, those which were connected and those which were
// not, after it is started again.
type killRun struct {
	*flow
	broker   *Broker
	topics   []*Topic
	sessions []*Session
	conns    []*Client // of the subscribers
	// subLost and pubLost count sessions which were not present when they had to be.
	subLost, pubLost int
	restartMs        []float64
	began            int64
}

// kill9 runs the scenario.
func (e *Env) kill9() {
	if e.cfg.Start == "" {
		e.fail("kill9 needs -start")
		return
	}
	k := &killRun{flow: &flow{e: e}, sessions: make([]*Session, killTotal), conns: make([]*Client, killTotal)}
	if err := k.start(); err != nil {
		e.fail("%v", err)
		return
	}
	defer func() { k.broker.stop() }()
	if err := k.open(); err != nil {
		e.fail("%v", err)
		return
	}
	stopFeeding := k.feed()
	k.began = nowNs()
	measuring.Store(true)
	for n := range e.cfg.Kills {
		during(e.cfg.Dur / 4) // under load, before the broker is killed
		k.kill()
		b := nowNs()
		if err := k.start(); err != nil {
			e.fail("restart %d: %v", n+1, err)
			stopFeeding()
			os.Exit(emit(e.res)) // there is no broker to be stopped
		}
		k.restartMs = append(k.restartMs, float64(nowNs()-b)/1e6)
		if err := k.reopen(); err != nil {
			e.fail("%v", err)
			stopFeeding()
			return
		}
	}
	during(e.cfg.Dur / 4) // and after it was killed last
	stopFeeding()
	for i := killOnline; i < killTotal; i++ {
		if err := k.openSub(i, false); err != nil {
			e.fail("%v", err)
			return
		}
	}
	k.await()
	measuring.Store(false)
	e.linger()
	k.close()
	k.report()
}

// start starts the broker.
func (k *killRun) start() error {
	cfg := k.e.cfg
	br, err := startBroker(cfg.Start, cfg.Addr, cfg.DataDir, os.Getenv("BENCH_BROKER_LOG"))
	if err != nil {
		return err
	}
	k.broker, k.e.proc.pid = br, br.cmd.Process.Pid
	return nil
}

// open connects everybody for the first time; those who are to be away leave again.
func (k *killRun) open() error {
	cfg := k.e.cfg
	for i := range 2 * killPublishers {
		q := byte(min(1+i/killPublishers, max(1, cfg.MaxQoS)))
		p := newPub(cid("kp%d", i), q, cfg.Window, 0, cfg.V5)
		p.keep, p.infl = true, map[uint16]inflight{}
		k.topics = append(k.topics, p.topic(uint32(i), tname("kill/q%d/%d", q, i), cfg.Size, killTotal))
		k.pubs = append(k.pubs, p)
	}
	for i := range killTotal {
		k.subs = append(k.subs, newSub(cid("ks%d", i), k.topics...))
		k.sessions[i] = &Session{}
	}
	for i := range killTotal {
		if err := k.openSub(i, true); err != nil {
			return err
		}
	}
	for i := killOnline; i < killTotal; i++ {
		k.conns[i].disconnect()
	}
	for _, p := range k.pubs {
		if err := k.openPub(p, true); err != nil {
			return err
		}
	}
	return nil
}

// reopen connects those again who were connected.
func (k *killRun) reopen() error {
	for i := range killOnline {
		if err := k.openSub(i, false); err != nil {
			return err
		}
	}
	for _, p := range k.pubs {
		if err := k.openPub(p, false); err != nil {
			return err
		}
	}
	return nil
}

// openSub connects a subscriber, which subscribes if its session is not there.
func (k *killRun) openSub(i int, first bool) error {
	c, sp, err := connect(k.e.opts(k.subs[i].id, false), k.sessions[i])
	if err != nil {
		return err
	}
	c.sub = k.subs[i]
	if !sp {
		if !first {
			k.subLost++
			k.sessions[i] = &Session{} // as the protocol demands of the client
			c.sess = k.sessions[i]
		}
		if err := c.subscribe(1, tname("kill/q1/+")); err != nil {
			return err
		}
		if k.e.cfg.MaxQoS >= 2 {
			if err := c.subscribe(2, tname("kill/q2/+")); err != nil {
				return err
			}
		}
	}
	c.start()
	k.conns[i] = c
	return nil
}

// openPub connects a publisher, which goes on with what was not acknowledged.
func (k *killRun) openPub(p *Pub, first bool) error {
	c, sp, err := connect(k.e.opts(p.id, false), nil)
	if err != nil {
		return err
	}
	if !sp && !first {
		k.pubLost++
	}
	p.resume(c, sp)
	c.start()
	return nil
}

// feed lets the publishers publish at their rate until stop is called, which waits for the last of it.
func (k *killRun) feed() (stop func()) {
	quit := make(chan struct{})
	var fed sync.WaitGroup
	fed.Go(func() {
		t := time.NewTicker(10 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
			}
			for _, p := range k.pubs {
				p.allow(uint64(max(1, k.e.cfg.KillRate/100)), uint64(k.e.cfg.Window))
				p.pump()
			}
		}
	})
	return func() {
		close(quit)
		fed.Wait()
	}
}

// kill kills the broker and waits until everybody has noticed.
func (k *killRun) kill() {
	all := append([]*Client(nil), k.conns[:killOnline]...)
	for _, p := range k.pubs {
		p.mu.Lock()
		if p.c != nil {
			all = append(all, p.c)
		}
		p.mu.Unlock()
	}
	for _, c := range all {
		c.closing.Store(true)
	}
	k.broker.kill()
	for _, c := range all {
		_ = c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		<-c.done
		c.nc.Close()
	}
	for _, p := range k.pubs {
		p.mu.Lock()
		p.c = nil
		p.mu.Unlock()
	}
}

// missing counts, by QoS, the deliveries of acknowledged messages which have not arrived.
func (k *killRun) missing() (n [3]int64) {
	for _, s := range k.subs {
		for _, t := range k.topics {
			st := s.streams[t.id]
			t.pub.mu.Lock()
			for w, x := range t.acked {
				for ; x != 0; x &= x - 1 {
					if !st.has(uint64(w)<<6 + uint64(bits.TrailingZeros64(x))) {
						n[t.pub.qos]++
					}
				}
			}
			t.pub.mu.Unlock()
		}
	}
	return n
}

// await waits until everything sent is acknowledged and every acknowledged message received.
func (k *killRun) await() {
	var lastSum int64 = -1
	since := time.Now()
	look := time.NewTicker(50 * time.Millisecond) // a look at all that is missing costs much
	defer look.Stop()
	for ; ; <-look.C {
		var acks int64
		infl := 0
		for _, p := range k.pubs {
			p.mu.Lock()
			infl += p.inflight
			p.mu.Unlock()
			acks += p.ackedN.Load()
		}
		got, _ := k.got()
		if s := acks + got; s != lastSum {
			lastSum, since = s, time.Now()
		}
		quiet := time.Since(since)
		if infl == 0 && quiet > time.Second {
			if m := k.missing(); m[1]+m[2] == 0 {
				return
			}
		}
		if quiet > k.e.cfg.Stall {
			if infl > 0 {
				k.e.fail("%d messages never acknowledged", infl)
			}
			return
		}
	}
}

// close ends all connections.
func (k *killRun) close() {
	for _, c := range k.conns {
		c.abort()
	}
	r := k.e.res
	r.RSSPeak, r.RSSEnd = k.e.proc.peakRSS(), k.e.proc.rss()
	for _, p := range k.pubs {
		p.mu.Lock()
		if p.c != nil {
			p.c.closing.Store(true)
			p.c.nc.Close()
			p.c = nil
		}
		p.mu.Unlock()
	}
}

// report says what arrived, and fails where something acknowledged did not, or at QoS 2 did twice.
func (k *killRun) report() {
	e, r := k.e, k.e.res
	m := k.missing()
	h := &Hist{}
	var dup, ooo, dupOn [3]int64
	var resent int64
	for i, s := range k.subs {
		h.merge(s.hist)
		resent += s.resent
		for _, st := range s.streams {
			dup[st.t.pub.qos] += st.dup
			ooo[st.t.pub.qos] += st.ooo
			if i < killOnline {
				dupOn[st.t.pub.qos] += st.dup
			}
		}
		r.Foreign += s.foreign
		if s.sample != "" {
			e.fail("%s: %s", s.id, s.sample)
		}
	}
	var sent, acked, dropped int64
	for _, p := range k.pubs {
		s, _ := p.expected()
		sent += s
		acked += p.ackedN.Load()
		dropped += p.dropped
	}
	r.Published = acked
	r.Delivered, _ = k.got()
	r.Seconds = float64(nowNs()-k.began) / 1e9
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
	e.extra("subscriber_sessions_lost", float64(k.subLost))
	e.extra("publisher_sessions_lost", float64(k.pubLost))
	e.extra("unacked_given_up", float64(dropped))
	for i, x := range k.restartMs {
		e.extra(fmt.Sprintf("restart%d_ms", i+1), x)
	}
	for _, x := range []struct {
		n       int64
		failure string
	}{
		{m[1], "QoS 1 deliveries of acknowledged messages lost"},
		{m[2], "QoS 2 deliveries of acknowledged messages lost"},
		{dup[2], "QoS 2 messages delivered twice"},
		{int64(k.subLost), "subscriber sessions lost"},
		{int64(k.pubLost), "publisher sessions lost"},
	} {
		if x.n > 0 {
			e.fail("%d %s over %d kills", x.n, x.failure, e.cfg.Kills)
		}
	}
}
