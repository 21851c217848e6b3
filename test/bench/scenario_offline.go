package main

import (
	"sync"
	"time"
)

// offlineDrain queues messages for sessions that are away, which then all come back at once.
func (e *Env) offlineDrain() {
	cfg := e.cfg
	f := &flow{e: e}
	const np = 10
	for i := range np {
		f.pubs = append(f.pubs, newPub(cid("odp%d", i), 1, cfg.Window, 0, cfg.V5))
	}
	half := cfg.K / 2
	common := f.pubs[0].topic(0, tname("od/common"), cfg.Size, half)
	for i := range cfg.K {
		t := common
		if i >= half {
			t = f.pubs[i%np].topic(uint32(1+i), tname("od/own/%d", i), cfg.Size, 1)
		}
		f.subs = append(f.subs, newSub(cid("ods%d", i), t))
	}
	sess := make([]*Session, cfg.K)
	filter := func(i int) string {
		for _, st := range f.subs[i].streams {
			return st.t.name
		}
		return ""
	}
	rss0, disk0 := e.proc.rss(), diskMB(cfg.DataDir)
	e.res.RSSStart = rss0
	if err := each(cfg.K, 20, func(i int) error {
		sess[i] = &Session{}
		c, _, err := connect(e.opts(f.subs[i].id, false), sess[i])
		if err != nil {
			return err
		}
		c.sub = f.subs[i]
		if err := c.subscribe(1, filter(i)); err != nil {
			return err
		}
		c.disconnect()
		return nil
	}); err != nil {
		e.fail("creating sessions: %v", err)
		return
	}
	for _, p := range f.pubs {
		c, _, err := connect(e.opts(p.id, true), nil)
		if err != nil {
			e.fail("publisher: %v", err)
			return
		}
		p.attach(c)
		c.start()
		f.conns = append(f.conns, c)
	}
	e.proc.resetPeak()
	cpu0, self0, t0 := e.proc.cpu(), selfCPU(), nowNs()
	for _, p := range f.pubs {
		p.set(uint64(cfg.M), 0)
	}
	// publish phase: everything sent and acknowledged
	last, since := int64(-1), time.Now()
	look := time.NewTicker(progressEvery)
	defer look.Stop()
	for ; ; <-look.C {
		all := true
		var n int64
		for _, p := range f.pubs {
			s, a := p.finished()
			all = all && s && a
			n += p.ackedN.Load()
		}
		if all {
			break
		}
		if n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > cfg.Stall {
			e.fail("publishing to offline sessions: no progress for %v after %d acknowledgements", cfg.Stall, n)
			f.closeAll()
			return
		}
	}
	tPub := float64(nowNs()-t0) / 1e9
	e.linger()
	cpu1 := e.proc.cpu()
	sent, _ := f.expected()
	e.extra("pub_rate", float64(sent)/tPub)
	e.extra("pub_cpu_us", (cpu1-cpu0)/float64(sent))
	e.extra("rss_offline_delta_mb", e.proc.rss()-rss0)
	e.extra("disk_delta_mb", diskMB(cfg.DataDir)-disk0)

	cpu2, t1 := e.proc.cpu(), nowNs()
	var mu sync.Mutex
	lostSess := 0
	if err := each(cfg.K, 20, func(i int) error {
		o := e.opts(f.subs[i].id, false)
		o.bufSize = 64 << 10
		c, sp, err := connect(o, sess[i])
		if err != nil {
			return err
		}
		c.sub = f.subs[i]
		c.start()
		mu.Lock()
		f.conns = append(f.conns, c)
		if !sp {
			lostSess++
		}
		mu.Unlock()
		return nil
	}); err != nil {
		e.fail("reconnecting: %v", err)
	}
	if lostSess > 0 {
		e.fail("%d sessions were not present at reconnect", lostSess)
	}
	f.drain("drain", 0)
	got, lastNs := f.got()
	self1 := selfCPU()
	tDrain := float64(lastNs-t1) / 1e9
	e.linger()
	cpu3 := e.proc.cpu()
	r := e.res
	r.Published, r.Delivered, r.Seconds = sent, got, tDrain
	if got > 0 {
		r.Rate = float64(got) / tDrain
		r.CPUus = (cpu1 - cpu0 + cpu3 - cpu2) / float64(got)
		r.GenCPUus = (self1 - self0) / float64(got)
		e.extra("drain_cpu_us", (cpu3-cpu2)/float64(got))
	}
	e.extra("publish_s", tPub)
	f.finish()
}
