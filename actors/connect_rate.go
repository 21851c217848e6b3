package actors

import (
	"hash/maphash"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
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
	limit rate.Limit // 0: any
	burst int
	seed  maphash.Seed

	// mu guards the fields below it.
	mu sync.Mutex
	// recent are those who connected since turned, older those before. Who was not seen for a whole period may connect as
	// if never seen, so that is forgotten.
	recent, older map[uint64]*connectRate
	turned        time.Time
}

// connectRate is what is remembered of one client.
type connectRate struct {
	limiter *rate.Limiter
	// refused counts since logged.
	refused int
	logged  time.Time
}

func newConnectRates(perSecond int) *connectRates {
	return &connectRates{
		limit: rate.Limit(perSecond), burst: perSecond * connectBurst, seed: maphash.MakeSeed(), recent: map[uint64]*connectRate{},
	}
}

// allow takes a CONNECT into account and reports whether the client may have it. If not, and the log should say so, refused
// is how many it was refused since the log last did.
func (r *connectRates) allow(clientID, address string, now time.Time) (ok bool, refused int) {
	if r.limit == 0 {
		return true, 0
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	key := maphash.Comparable(r.seed, [2]string{clientID, address})
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(key, now)
	if c.limiter.AllowN(now, 1) {
		return true, 0
	}
	c.refused++
	if !c.logged.IsZero() && now.Sub(c.logged) < connectRateLogInterval {
		return false, 0
	}
	refused = c.refused
	c.refused, c.logged = 0, now
	return false, refused
}

// find is what is remembered of a client, from now on among the recent ones. mu is held.
func (r *connectRates) find(key uint64, now time.Time) *connectRate {
	if now.Sub(r.turned) >= connectBurst*time.Second || len(r.recent) >= maxConnectRates {
		r.older, r.recent, r.turned = r.recent, map[uint64]*connectRate{}, now
	}
	c := r.recent[key]
	if c == nil {
		if c = r.older[key]; c == nil {
			c = &connectRate{limiter: rate.NewLimiter(r.limit, r.burst)}
		}
		delete(r.older, key)
		r.recent[key] = c
	}
	return c
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
