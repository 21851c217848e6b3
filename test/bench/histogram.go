package main

import (
	"math/bits"
)

// Hist is a log-linear histogram of nanoseconds, 1.6 % resolution.
type Hist struct {
	c   [58 * 64]uint32
	n   int64
	max int64
}

// bucket is the place of v nanoseconds.
func bucket(v int64) int {
	if v < 0 {
		v = 0
	}
	if v < 64 {
		return int(v)
	}
	e := bits.Len64(uint64(v)) - 7
	return (e+1)*64 + int(v>>uint(e)) - 64
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) int64 {
	if i < 64 {
		return int64(i)
	}
	e := uint(i/64 - 1)
	return (int64(i%64+64)+1)<<e - 1
}

// add counts one latency, in nanoseconds.
func (h *Hist) add(v int64) {
	i := bucket(v)
	if i >= len(h.c) {
		i = len(h.c) - 1
	}
	h.c[i]++
	h.n++
	if v > h.max {
		h.max = v
	}
}

// merge adds what o has counted.
func (h *Hist) merge(o *Hist) {
	for i, x := range o.c {
		h.c[i] += x
	}
	h.n += o.n
	if o.max > h.max {
		h.max = o.max
	}
}

// q returns a quantile in milliseconds.
func (h *Hist) q(f float64) float64 {
	if h.n == 0 {
		return 0
	}
	want := int64(f*float64(h.n) + 0.5)
	if want < 1 {
		want = 1
	}
	var c int64
	for i, x := range h.c {
		c += int64(x)
		if c >= want {
			v := bucketTop(i)
			if v > h.max {
				v = h.max
			}
			return float64(v) / 1e6
		}
	}
	return float64(h.max) / 1e6
}
