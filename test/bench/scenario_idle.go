package main

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// idle: N connected clients, each with one subscription of its own.
func (e *Env) idle(offline bool) {
	cfg := e.cfg
	// a first client, so that lazily created structures exist
	if c, _, err := connect(e.opts(cid("warm"), true), nil); err == nil {
		_ = c.subscribe(1, tname("warm"))
		c.disconnect()
	} else {
		e.fail("%v", err)
		return
	}
	e.proc.rest()
	rss0, pss0, disk0 := e.proc.rss(), e.proc.pss(), diskMB(cfg.DataDir)
	e.res.RSSStart = rss0
	e.proc.resetPeak()
	conns := make([]*Client, cfg.N)
	qos := byte(0)
	if offline {
		qos = 1
	}
	cpu0, self0, t0 := e.proc.cpu(), selfCPU(), nowNs()
	err := each(cfg.N, cfg.C, func(i int) error {
		o := e.opts(cid("i%d", i), !offline)
		o.bufSize = 256
		c, _, err := connect(o, nil)
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		if err := c.subscribe(qos, tname("idle/%d", i)); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		if offline {
			c.disconnect()
		} else {
			conns[i] = c
		}
		return nil
	})
	dt := float64(nowNs()-t0) / 1e9
	self1 := selfCPU()
	if err != nil {
		e.fail("%v", err)
	}
	cpu1 := e.proc.cpu()
	during(cfg.Settle) // what the broker gives back in this time does not count as memory of its clients
	cpuA, tA := e.proc.cpu(), nowNs()
	during(3 * time.Second) // the time over which idle CPU is measured
	idleCPU := (e.proc.cpu() - cpuA) / (float64(nowNs()-tA) / 1e9)
	n := float64(cfg.N)
	r := e.res
	r.RSSPeak, r.RSSEnd = e.proc.peakRSS(), e.proc.rss()
	r.Delivered, r.Seconds, r.Rate = int64(cfg.N), dt, n/dt
	r.CPUus, r.GenCPUus = (cpu1-cpu0)/n, (self1-self0)/n
	e.extra("rss_kb_each", (r.RSSEnd-rss0)*1024/n)
	e.extra("pss_kb_each", (e.proc.pss()-pss0)*1024/n)
	if cfg.DataDir != "" {
		e.extra("disk_kb_each", (diskMB(cfg.DataDir)-disk0)*1024/n)
	}
	e.extra("idle_cpu_us_per_s", idleCPU)
	if !offline && err == nil {
		// every connection must still be alive
		var dead atomic.Int64
		_ = each(cfg.N, cfg.C, func(i int) error {
			c := conns[i]
			_ = c.nc.SetDeadline(time.Now().Add(10 * time.Second))
			var pk Packet
			if _, err := c.nc.Write([]byte{tPINGREQ << 4, 0}); err != nil {
				dead.Add(1)
			} else if err := c.readOne(&pk); err != nil || pk.typ != tPINGRESP {
				dead.Add(1)
			}
			c.abort()
			return nil
		})
		if dead.Load() > 0 {
			e.fail("%d of %d idle connections were dead", dead.Load(), cfg.N)
		}
	}
	if offline && err == nil {
		// a sample of the sessions must be present
		miss := 0
		for range 100 {
			c, sp, err := connect(e.opts(cid("i%d", rand.IntN(cfg.N)), false), nil)
			if err != nil {
				e.fail("resume: %v", err)
				break
			}
			if !sp {
				miss++
			}
			c.disconnect()
		}
		if miss > 0 {
			e.fail("%d of 100 sampled sessions were lost", miss)
		}
	}
}

// scaling measures pairs at QoS 1 beside more and more sessions that are away.
func (e *Env) scaling() {
	cfg := e.cfg
	have := 0
	steps := splitInts(cfg.Sessions)
	var pubN, del int64
	for k, want := range steps {
		b := nowNs()
		if err := each(want-have, cfg.C, func(i int) error {
			o := e.opts(cid("sc%d", have+i), false)
			o.bufSize = 256
			c, _, err := connect(o, nil)
			if err != nil {
				return err
			}
			if err := c.subscribe(1, tname("scale/%d", have+i)); err != nil {
				return err
			}
			c.disconnect()
			return nil
		}); err != nil {
			e.fail("creating sessions up to %d: %v", want, err)
			return
		}
		if want > have {
			e.extra(fmt.Sprintf("create_per_s@%d", want), float64(want-have)/(float64(nowNs()-b)/1e9))
		}
		have = want
		e.proc.rest()
		f := e.pairs(1, fmt.Sprintf("q1s%d", k))
		if f == nil {
			return
		}
		f.measure()
		e.extra(fmt.Sprintf("rate@%d", want), e.res.Rate)
		e.extra(fmt.Sprintf("cpu_us@%d", want), e.res.CPUus)
		pubN += e.res.Published
		del += e.res.Delivered
	}
	e.res.Published, e.res.Delivered = pubN, del
}
