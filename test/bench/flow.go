package main

import (
	"fmt"
	"sync"
	"time"
)

// flow is a set of publishers and subscribers which are connected.
type flow struct {
	e     *Env
	pubs  []*Pub
	subs  []*Sub
	conns []*Client
}

// got is how many messages have arrived, and when the last one did.
func (f *flow) got() (n, last int64) {
	for _, s := range f.subs {
		n += s.got.Load()
		last = max(last, s.lastNs.Load())
	}
	return
}

// expected is how many messages were sent, and how many deliveries they must come to.
func (f *flow) expected() (sent, want int64) {
	for _, p := range f.pubs {
		s, d := p.expected()
		sent += s
		want += d
	}
	return
}

// drain waits until the publishers are done and everything has arrived.
// It returns false after a time without any progress.
func (f *flow) drain(what string, until int64) bool {
	lastSum, since := int64(-1), time.Now()
	look := time.NewTicker(progressEvery)
	defer look.Stop()
	for ; ; <-look.C {
		if until != 0 && nowNs() >= until {
			for _, p := range f.pubs {
				p.stop()
			}
			until = 0
		}
		sentAll, ackedAll := true, true
		var acks int64
		for _, p := range f.pubs {
			s, a := p.finished()
			sentAll, ackedAll = sentAll && s, ackedAll && a
			acks += p.ackedN.Load() + p.sent.Load()
		}
		got, _ := f.got()
		_, want := f.expected()
		if sentAll && ackedAll && got >= want {
			return true
		}
		if sum := acks + got; sum != lastSum {
			lastSum, since = sum, time.Now()
		} else if time.Since(since) > f.e.cfg.Stall {
			var infl int
			for _, p := range f.pubs {
				p.mu.Lock()
				infl += p.inflight
				p.stopped = true
				p.mu.Unlock()
			}
			f.e.fail("%s: no progress for %v: %d of %d deliveries, %d messages unacknowledged", what, f.e.cfg.Stall, got, want, infl)
			return false
		}
	}
}

// closeAll closes the connections without DISCONNECT.
func (f *flow) closeAll() {
	_ = each(len(f.conns), 50, func(i int) error { f.conns[i].abort(); return nil })
	for _, p := range f.pubs {
		p.mu.Lock()
		p.c = nil
		p.mu.Unlock()
	}
}

// verify compares, subscriber by subscriber, what arrived with what was sent.
func (f *flow) verify() {
	r := f.e.res
	h := &Hist{}
	for _, s := range f.subs {
		h.merge(s.hist)
		for _, st := range s.streams {
			r.Lost += int64(st.t.seq) - st.n
			r.Dup += st.dup
			r.OOO += st.ooo
			if st.next > st.t.seq {
				f.e.fail("%s: a sequence number which was never sent", s.id)
			}
		}
		r.Foreign += s.foreign
		if s.sample != "" {
			f.e.fail("%s: %s", s.id, s.sample)
		}
	}
	var bad, refused int64
	for _, p := range f.pubs {
		bad += p.badAcks
		refused += p.refused
	}
	if r.Lost != 0 {
		f.e.fail("%d messages lost", r.Lost)
	}
	if r.Dup != 0 {
		f.e.fail("%d messages delivered twice without any reconnect", r.Dup)
	}
	if r.OOO != 0 {
		f.e.fail("%d messages out of order", r.OOO)
	}
	if bad != 0 {
		f.e.fail("%d acknowledgements which match nothing", bad)
	}
	if refused != 0 {
		f.e.fail("%d publishes refused", refused)
	}
	r.P50, r.P99, r.P999, r.Max = h.q(.5), h.q(.99), h.q(.999), h.q(1)
}

// measure runs a warm-up and then the timed part; the CPU time counted runs
// from the start of publishing to a little after the last delivery.
func (f *flow) measure() {
	e := f.e
	cfg := e.cfg
	if cfg.Warm > 0 {
		for _, p := range f.pubs {
			p.set(uint64(cfg.Warm), 0)
		}
		if !f.drain("warm-up", 0) {
			f.finish()
			return
		}
	}
	measuring.Store(true)
	got0, _ := f.got()
	sent0, _ := f.expected()
	e.res.RSSStart = e.proc.rss()
	e.proc.resetPeak()
	cpu0, self0, t0 := e.proc.cpu(), selfCPU(), nowNs()
	stop := int64(0)
	if cfg.Count == 0 {
		stop = t0 + int64(cfg.Dur)
	}
	for _, p := range f.pubs {
		p.set(uint64(cfg.Count), stop)
	}
	f.drain("measured part", stop)
	got1, last := f.got()
	sent1, _ := f.expected()
	measuring.Store(false)
	self1 := selfCPU()
	e.linger()
	cpu1 := e.proc.cpu()
	r := e.res
	r.Published, r.Delivered = sent1-sent0, got1-got0
	r.Seconds = float64(last-t0) / 1e9
	if r.Delivered > 0 {
		r.Rate = float64(r.Delivered) / r.Seconds
		r.CPUus = (cpu1 - cpu0) / float64(r.Delivered)
		r.GenCPUus = (self1 - self0) / float64(r.Delivered)
	}
	f.finish()
}

// finish ends the connections and checks what arrived.
func (f *flow) finish() {
	f.e.res.RSSPeak, f.e.res.RSSEnd = f.e.proc.peakRSS(), f.e.proc.rss()
	f.closeAll()
	f.verify()
}

// connectAll connects and subscribes the subscribers, each to its filter, then connects the publishers.
func (f *flow) connectAll(qos byte, clean bool, filter func(*Sub) string) error {
	var mu sync.Mutex
	add := func(c *Client) {
		mu.Lock()
		f.conns = append(f.conns, c)
		mu.Unlock()
	}
	if err := each(len(f.subs), 20, func(i int) error {
		s := f.subs[i]
		o := f.e.opts(s.id, clean)
		o.bufSize = 64 << 10
		c, _, err := connect(o, nil)
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		c.sub = s
		if err := c.subscribe(qos, filter(s)); err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		c.start()
		add(c)
		return nil
	}); err != nil {
		return err
	}
	return each(len(f.pubs), 20, func(i int) error {
		p := f.pubs[i]
		c, _, err := connect(f.e.opts(p.id, clean), nil)
		if err != nil {
			return fmt.Errorf("publisher %d: %w", i, err)
		}
		p.attach(c)
		c.start()
		add(c)
		return nil
	})
}
