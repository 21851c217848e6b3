package actors

import (
	"hash/maphash"
	"net"
	"sync"
	"time"
)

const (
	// connectBurst is for how many seconds' worth of CONNECTs a client that was quiet may connect at once.
	connectBurst = 10
	// maxConnectRates bounds what is remembered of who connected, twice. Overflow policy: those who connected longest ago
	// are taken for new.
	maxConnectRates = 1 << 15
	// connectRateLogInterval is how often, at most, a client that connects too often is logged.
	connectRateLogInterval = time.Minute
)

// connectRates holds back clients that connect again and again: each CONNECT of one that is there takes its session over,
// and that is work for the session and for storage. A client is a client identifier from one address, so that nobody can
// keep another from connecting.
type connectRates struct {
	// interval is how far apart the CONNECTs of a client are in the long run, 0 for any.
	interval time.Duration
	seed     maphash.Seed
	// origin is when time began.
	origin time.Time

	// mu guards the fields below it.
	mu sync.Mutex
	// recent are those who connected since turned, older those before. Who was not seen for a whole period may connect as
	// if never seen, so that is forgotten.
	recent, older map[uint64]connectRate
	turned        time.Time
	// refusals are of those who were refused lately.
	refusals map[uint64]connectRefusals
}

// connectRate is what is remembered of one client: until when its CONNECTs up to now would have taken at the interval, since
// the origin. It may be a burst ahead.
type connectRate time.Duration

// connectRefusals counts those of one client since the log said so.
type connectRefusals struct {
	count  int
	logged time.Time
}

func newConnectRates(perSecond int) *connectRates {
	r := &connectRates{
		seed: maphash.MakeSeed(), origin: time.Now(), recent: map[uint64]connectRate{}, refusals: map[uint64]connectRefusals{},
	}
	if perSecond > 0 {
		r.interval = time.Second / time.Duration(perSecond)
	}
	return r
}

// allow takes a CONNECT into account and reports whether the client may have it. If not, and the log should say so, refused
// is how many it was refused since the log last did.
func (r *connectRates) allow(clientID, address string, now time.Time) (ok bool, refused int) {
	if r.interval == 0 {
		return true, 0
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	key := maphash.Comparable(r.seed, [2]string{clientID, address})
	r.mu.Lock()
	defer r.mu.Unlock()
	since := connectRate(now.Sub(r.origin))
	taken := max(r.find(key, now), since) + connectRate(r.interval)
	if taken <= since+connectRate(connectBurst*time.Second) {
		r.recent[key] = taken
		return true, 0
	}
	return false, r.refuse(key, now)
}

// find is what is remembered of a client. mu is held.
func (r *connectRates) find(key uint64, now time.Time) connectRate {
	if now.Sub(r.turned) >= connectBurst*time.Second || len(r.recent) >= maxConnectRates {
		r.older, r.recent, r.turned = r.recent, map[uint64]connectRate{}, now
	}
	c, ok := r.recent[key]
	if !ok {
		c = r.older[key]
		delete(r.older, key)
		r.recent[key] = c
	}
	return c
}

// refuse counts a refusal, and is how many there were if the log should say so. mu is held.
func (r *connectRates) refuse(key uint64, now time.Time) (refused int) {
	c, ok := r.refusals[key]
	c.count++
	if ok && now.Sub(c.logged) < connectRateLogInterval {
		r.refusals[key] = c
		return 0
	}
	if !ok && len(r.refusals) >= maxConnectRates {
		clear(r.refusals)
	}
	r.refusals[key] = connectRefusals{logged: now}
	return c.count
}

// mayConnect reports whether a client may connect again already.
func (b *Broker) mayConnect(clientID, address string) bool {
	ok, refused := b.rates.allow(clientID, address, time.Now())
	if !ok {
		b.stats.throttled.Add(1)
	}
	if refused > 0 {
		b.log.Warn("client connects too often; it is refused until it slows down", "client", clientID, "address", address,
			"refused", refused, "allowed_per_second", b.cfg.ConnectRate)
	}
	return ok
}
