package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// Env is one run: what was asked for, what it came to, and the process that is watched.
type Env struct {
	cfg  *Config
	res  *Result
	proc *Proc
}

// fail adds a reason why the run failed.
func (e *Env) fail(f string, a ...any) {
	if len(e.res.Errors) < 20 {
		e.res.Errors = append(e.res.Errors, fmt.Sprintf(f, a...))
	}
}

// extra adds a figure of this scenario alone.
func (e *Env) extra(k string, v float64) { e.res.Extra = append(e.res.Extra, KV{k, v}) }

// opts are the options of a connection with this client identifier.
func (e *Env) opts(id string, clean bool) dialOpts {
	return dialOpts{addr: e.cfg.Addr, id: id, clean: clean, v5: e.cfg.V5}
}

// outstanding is the bound of undelivered messages, def unless a flag says otherwise.
func (e *Env) outstanding(def int) int64 {
	if e.cfg.Outstanding > 0 {
		return int64(e.cfg.Outstanding)
	}
	return int64(def)
}

// tname is a topic name that no other run uses.
func tname(f string, a ...any) string { return fmt.Sprintf("b%08x/", runID) + fmt.Sprintf(f, a...) }

// cid is a client identifier that no other run uses.
func cid(f string, a ...any) string { return fmt.Sprintf("c%08x", runID) + fmt.Sprintf(f, a...) }

// each runs f(0..n-1) with c at a time and returns the first error.
func each(n, c int, f func(i int) error) error {
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex
		ferr error
	)
	for range min(c, n) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := int(next.Add(1)) - 1
				mu.Lock()
				bad := ferr != nil
				mu.Unlock()
				if i >= n || bad {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if ferr == nil {
						ferr = err
					}
					mu.Unlock()
					return
				}
			}
		}()
	}
	wg.Wait()
	return ferr
}

// runScenario runs the scenario that cfg names.
func runScenario(cfg *Config, name string) *Result {
	runID = rand.Uint32()
	e := &Env{cfg: cfg, res: &Result{Scenario: cfg.Scenario, Broker: name}, proc: &Proc{pid: cfg.Pid}}
	if n, err := raiseFD(); err != nil || int(n) < cfg.N+200 && (cfg.Scenario == "idle-mem") {
		fmt.Fprintf(os.Stderr, "bench: only %d file descriptors\n", n)
	}
	switch cfg.Scenario {
	case "qos0-pairs", "qos1-pairs", "qos2-pairs":
		if f := e.pairs(cfg.Scenario[3]-'0', cfg.Scenario[:4]); f != nil {
			f.measure()
		}
	case "qos0-fanout":
		e.fanout(0, pick(cfg.Subs, 500), "f0")
	case "qos1-fanout":
		e.fanout(1, pick(cfg.Subs, 100), "f1")
	case "qos1-fanout1000":
		e.fanout(1, pick(cfg.Subs, 1000), "f1k")
	case "qos1-fanin":
		e.fanin(1, "fi")
	case "offline-drain":
		e.offlineDrain()
	case "connect-rate":
		e.connectRate()
	case "idle-mem":
		e.idle(false)
	case "offline-mem":
		e.idle(true)
	case "latency":
		e.latency()
	case "sessions-scaling":
		e.scaling()
	case "retained":
		e.retained()
	case "kill9":
		e.kill9()
	default:
		fatal("unknown scenario %q", cfg.Scenario)
	}
	if n := connErrs.count(); n > 0 {
		e.fail("%d connection errors: %v", n, connErrs.some)
	}
	e.res.OK = len(e.res.Errors) == 0
	return e.res
}

// pick is v, or def where v is not set.
func pick(v, def int) int {
	if v > 0 {
		return v
	}
	return def
}

// raiseFD raises the limit of file descriptors as far as it goes and returns it.
func raiseFD() (uint64, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, err
	}
	want := syscall.Rlimit{Cur: 200000, Max: 200000}
	if r.Max < want.Max && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return want.Cur, nil
	}
	r.Cur = r.Max
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
	return r.Cur, err
}
