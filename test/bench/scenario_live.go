package main

import (
	"time"
)

// pairs: each publisher has its own topic and its own subscriber.
func (e *Env) pairs(qos byte, tag string) *flow {
	cfg := e.cfg
	f := &flow{e: e}
	for i := range cfg.Pairs {
		p := newPub(cid("%sp%d", tag, i), qos, cfg.Window, e.outstanding(100), cfg.V5)
		t := p.topic(uint32(i), tname("%s/%d", tag, i), cfg.Size, 1)
		s := newSub(cid("%ss%d", tag, i), t)
		f.pubs, f.subs = append(f.pubs, p), append(f.subs, s)
	}
	if err := f.connectAll(qos, qos == 0, func(s *Sub) string {
		for _, st := range s.streams {
			return st.t.name
		}
		return ""
	}); err != nil {
		e.fail("connecting: %v", err)
		return nil
	}
	return f
}

// fanout measures one publisher with n subscribers.
func (e *Env) fanout(qos byte, n int, tag string) {
	cfg := e.cfg
	f := &flow{e: e}
	p := newPub(cid("%sp", tag), qos, cfg.Window, e.outstanding(64), cfg.V5)
	t := p.topic(0, tname("%s", tag), cfg.Size, n)
	f.pubs = []*Pub{p}
	for i := range n {
		f.subs = append(f.subs, newSub(cid("%ss%d", tag, i), t))
	}
	if err := f.connectAll(qos, qos == 0, func(*Sub) string { return t.name }); err != nil {
		e.fail("connecting: %v", err)
		return
	}
	f.measure()
}

// fanin measures many publishers with one subscriber to a wildcard.
func (e *Env) fanin(qos byte, tag string) {
	cfg := e.cfg
	f := &flow{e: e}
	var ts []*Topic
	for i := range cfg.Pubs {
		p := newPub(cid("%sp%d", tag, i), qos, cfg.Window, e.outstanding(100), cfg.V5)
		ts = append(ts, p.topic(uint32(i), tname("%s/%d", tag, i), cfg.Size, 1))
		f.pubs = append(f.pubs, p)
	}
	f.subs = []*Sub{newSub(cid("%ss", tag), ts...)}
	if err := f.connectAll(qos, qos == 0, func(*Sub) string { return tname("%s/+", tag) }); err != nil {
		e.fail("connecting: %v", err)
		return
	}
	f.measure()
}

// latency measures a fixed rate, far below what the broker can do.
func (e *Env) latency() {
	cfg := e.cfg
	cfg.Window, cfg.Outstanding = 5000, 1<<62
	f := e.pairs(1, "lat")
	if f == nil {
		return
	}
	for _, p := range f.pubs {
		p.set(20, 0)
	}
	if !f.drain("warm-up", 0) {
		f.finish()
		return
	}
	measuring.Store(true)
	got0, _ := f.got()
	e.res.RSSStart = e.proc.rss()
	e.proc.resetPeak()
	cpu0, self0, t0 := e.proc.cpu(), selfCPU(), nowNs()
	step := int64(time.Second) / int64(cfg.Rate)
	total := int64(cfg.Dur) / step
	var late int64
	for i := int64(0); i < total; i++ {
		due := t0 + i*step
		if d := due - nowNs(); d > 0 {
			during(time.Duration(d)) // the scenario is a rate
		}
		late = max(late, nowNs()-due)
		f.pubs[i%int64(len(f.pubs))].set(1, 0)
	}
	f.drain("latency", 0)
	got1, last := f.got()
	measuring.Store(false)
	self1 := selfCPU()
	e.linger()
	cpu1 := e.proc.cpu()
	r := e.res
	r.Published, r.Delivered = total, got1-got0
	r.Seconds = float64(last-t0) / 1e9
	r.Rate = float64(r.Delivered) / r.Seconds
	r.CPUus = (cpu1 - cpu0) / float64(r.Delivered)
	r.GenCPUus = (self1 - self0) / float64(r.Delivered)
	e.extra("latest_send_ms", float64(late)/1e6)
	f.finish()
}
