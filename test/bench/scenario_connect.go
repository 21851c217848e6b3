package main

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// connectRate measures connections that do nothing: clean ones, those that make a session, and those that resume it.
func (e *Env) connectRate() {
	cfg := e.cfg
	e.res.RSSStart = e.proc.rss()
	e.proc.resetPeak()
	var total int64
	var cpuAll, selfAll, secs float64
	phase := func(name, tag string, clean, wantSP bool) bool {
		var wrong atomic.Int64
		cpu0, self0, t0 := e.proc.cpu(), selfCPU(), nowNs()
		var hm sync.Mutex
		h := &Hist{}
		err := each(cfg.N, cfg.C, func(i int) error {
			b := nowNs()
			o := e.opts(cid("%s%d", tag, i), clean)
			o.bufSize = 256
			c, sp, err := connect(o, nil)
			if err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			d := nowNs() - b
			hm.Lock()
			h.add(d)
			hm.Unlock()
			if sp != wantSP {
				wrong.Add(1)
			}
			c.disconnect()
			return nil
		})
		dt := float64(nowNs()-t0) / 1e9
		self1 := selfCPU()
		e.linger()
		cpu := e.proc.cpu() - cpu0
		if err != nil {
			e.fail("%s: %v", name, err)
			return false
		}
		if n := wrong.Load(); n > 0 {
			e.fail("%s: %d of %d CONNACKs with the wrong session present flag", name, n, cfg.N)
		}
		e.extra(name+"_per_s", float64(cfg.N)/dt)
		e.extra(name+"_cpu_us", cpu/float64(cfg.N))
		e.extra(name+"_p99_ms", h.q(.99))
		total += int64(cfg.N)
		cpuAll += cpu
		selfAll += self1 - self0
		secs += dt
		return true
	}
	if phase("clean", "cc", true, false) && phase("new_persistent", "cp", false, false) {
		phase("resume", "cp", false, true)
	}
	r := e.res
	r.Delivered, r.Seconds = total, secs
	if total > 0 {
		r.Rate, r.CPUus, r.GenCPUus = float64(total)/secs, cpuAll/float64(total), selfAll/float64(total)
	}
	r.RSSPeak, r.RSSEnd = e.proc.peakRSS(), e.proc.rss()
}
