package main

import (
	"time"
)

// retained stores a message for each of many topics and measures one SUBSCRIBE that brings them all.
func (e *Env) retained() {
	cfg := e.cfg
	f := &flow{e: e}
	const np = 10
	s := newSub(cid("rets"))
	for i := range np {
		p := newPub(cid("retp%d", i), 1, cfg.Window, 0, cfg.V5)
		p.retain = true
		f.pubs = append(f.pubs, p)
	}
	for i := range cfg.Retained {
		t := f.pubs[i%np].topic(uint32(i), tname("ret/%d", i), cfg.Size, 1)
		s.streams[t.id] = &stream{t: t}
	}
	if err := f.connectAll(1, true, nil); err != nil {
		e.fail("%v", err)
		return
	}
	f.subs = []*Sub{s}
	e.res.RSSStart = e.proc.rss()
	e.proc.resetPeak()
	cpu0, self0, t0 := e.proc.cpu(), selfCPU(), nowNs()
	for _, p := range f.pubs {
		p.set(1, 0)
	}
	dead := time.Now().Add(60 * time.Second)
	look := time.NewTicker(progressEvery)
	defer look.Stop()
	for ; ; <-look.C {
		all := true
		for _, p := range f.pubs {
			a, b := p.finished()
			all = all && a && b
		}
		if all {
			break
		}
		if time.Now().After(dead) {
			e.fail("storing retained messages took longer than a minute")
			f.closeAll()
			return
		}
	}
	store := float64(nowNs()-t0) / 1e9
	e.linger()
	cpu1 := e.proc.cpu()
	e.extra("store_per_s", float64(cfg.Retained)/store)
	e.extra("store_cpu_us", (cpu1-cpu0)/float64(cfg.Retained))
	cpu1, t1 := e.proc.cpu(), nowNs()
	o := e.opts(s.id, true)
	o.bufSize = 64 << 10
	c, _, err := connect(o, nil)
	if err != nil {
		e.fail("%v", err)
		return
	}
	c.sub = s
	f.conns = append(f.conns, c)
	c.looping = false
	if _, err := c.nc.Write(encSubscribe(nil, 1, cfg.V5, byte(cfg.SubQoS), tname("ret/#"))); err != nil {
		e.fail("%v", err)
		return
	}
	c.start()
	f.drain("retained", 0)
	got, last := f.got()
	self1 := selfCPU()
	e.linger()
	cpu2 := e.proc.cpu()
	r := e.res
	r.Published, r.Delivered = int64(cfg.Retained), got
	r.Seconds = float64(last-t1) / 1e9
	if got > 0 {
		r.Rate = float64(got) / r.Seconds
		r.CPUus = (cpu2 - cpu1) / float64(got)
		r.GenCPUus = (self1 - self0) / float64(got)
	}
	f.finish()
}
