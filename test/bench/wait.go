package main

import "time"

// A generator measures from outside: it cannot be told by the broker that it has done its work, nor that nothing more will come. These
// are the only places where it lets time pass.

// linger lets the broker go on after a measured part for as long as was asked for (-linger): what it still does for the messages is
// counted, too, and a message that comes once more comes behind all others.
func (e *Env) linger() { time.Sleep(e.cfg.Linger) }

// letRun lets what goes on go on for a time that is part of the scenario: load before a kill, idleness that is measured, the distance
// of messages at a rate.
func letRun(d time.Duration) { time.Sleep(d) }

// The distances at which is looked again for what nobody tells of: progress, since to be woken by each message would cost the generator
// more than the message does; the end of processes that are not our children; that nothing happens any more.
const (
	lookAtProgress  = 2 * time.Millisecond
	lookAtProcess   = 5 * time.Millisecond
	lookAtCPU       = 20 * time.Millisecond
	lookAtStillness = 50 * time.Millisecond
)

// lookAgain returns when it is time to look again.
func lookAgain(distance time.Duration) { time.Sleep(distance) }
