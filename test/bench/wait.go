package main

import "time"

// progressEvery is how often the generator looks how far it has come: to be woken by each message would cost it more than the message
// does, and what it costs is taken from the broker on the same machine.
const progressEvery = 2 * time.Millisecond

// during returns when a measured time is over. The broker says nothing at its end: the length of the measurement is what the
// scenario gives.
func during(d time.Duration) { <-time.After(d) }

// linger goes on measuring for the time of -linger: what the broker still does for the messages is counted, too, and a
// message that comes once more comes behind all others.
func (e *Env) linger() { during(e.cfg.Linger) }
