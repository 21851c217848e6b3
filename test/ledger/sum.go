package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Sum is what a comparison has found.
type Sum struct {
	// Deliveries are what all subscribers together must have, each message once.
	Acknowledged, Deliveries, Subscribers int
	Lost, DuplicatesQoS2, Disorder        int
	// Losses are the connections that were lost and replaced.
	Losses Losses
}

// String is one line for the log.
func (s Sum) String() string {
	text := fmt.Sprintf("%d messages acknowledged, %d deliveries to %d subscribers; lost %d, QoS 2 duplicates %d, order violations %d",
		s.Acknowledged, s.Deliveries, s.Subscribers, s.Lost, s.DuplicatesQoS2, s.Disorder)
	if len(s.Losses) > 0 {
		text += "; " + s.Losses.String()
	}
	return text
}

// Losses are connections that were lost and replaced, in any order.
type Losses []Loss

// Between are those of connections to an address that were lost at or after begin, and before end.
func (l Losses) Between(begin, end time.Time, address string) Losses {
	return slices.DeleteFunc(slices.Clone(l), func(one Loss) bool {
		return one.Address != address || one.Lost.Before(begin) || !one.Lost.Before(end)
	})
}

// Peak is how many clients were let in again in one second at most.
func (l Losses) Peak() (peak int) {
	sorted := slices.SortedFunc(slices.Values(l), func(a, b Loss) int { return a.Back.Compare(b.Back) })
	first := 0
	for i, one := range sorted {
		for one.Back.Sub(sorted[first].Back) >= time.Second {
			first++
		}
		peak = max(peak, i-first+1)
	}
	return peak
}

// String says how long clients were away.
func (l Losses) String() string {
	if len(l) == 0 {
		return "no connection lost"
	}
	away := make([]time.Duration, len(l))
	for i, one := range l {
		away[i] = one.Back.Sub(one.Lost)
	}
	slices.SortFunc(away, cmp.Compare[time.Duration])
	at := func(i int) time.Duration { return away[i].Round(time.Millisecond) }
	return fmt.Sprintf("%d connections lost, from that to CONNACK p50 %v, p99 %v, max %v; %d CONNECTs/s at the peak",
		len(l), at(len(l)/2), at(len(l)*99/100), at(len(l)-1), l.Peak())
}
