package actors

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// passwords is an authenticator: the password of each principal. It refuses, or has answers prepared for, some.
type passwords struct {
	known       map[string]string
	permissions map[string]sessions.Permissions
	// answers are errors for principals, whatever their password is.
	answers map[string]error
	// gate, if not nil, is waited for before an answer is given.
	gate chan struct{}

	// mu guards asked and the counts of callers in Authenticate.
	mu             sync.Mutex
	asked          []sessions.Credentials
	inside, atMost int
}

// Authenticate implements sessions.Authenticator.
func (p *passwords) Authenticate(ctx context.Context, c sessions.Credentials) (sessions.Identity, error) {
	p.mu.Lock()
	p.asked = append(p.asked, c)
	p.inside++
	p.atMost = max(p.atMost, p.inside)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.inside--
	}()
	if p.gate != nil {
		select {
		case <-p.gate:
		case <-ctx.Done():
			return sessions.Identity{}, ctx.Err()
		}
	}
	name := c.Username.Value
	if err := p.answers[name]; err != nil {
		return sessions.Identity{}, err
	}
	want, known := p.known[name]
	if !c.Username.Present || !known || string(c.Password) != want {
		return sessions.Identity{}, &sessions.Refusal{Reason: mqttcodec.BadUserNameOrPassword, Detail: "user name or password is wrong"}
	}
	return sessions.Identity{Principal: name, Permissions: p.permissions[name]}, nil
}

func (p *passwords) calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// as makes a CONNECT that of a principal with a password.
func as(principal, password string) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) {
		p.Username, p.Password = mqttcodec.Some(principal), []byte(password)
	}
}

// authenticatedBy is a broker that asks an authenticator.
func authenticatedBy(a sessions.Authenticator) func(*Config) {
	return func(c *Config) { c.Authenticator = a }
}

// denied is permissions with exceptions: filters of what may not be.
type denied struct{ publish, subscribe, receive []string }

func matchesAny(filters []string, topic string) bool {
	return slices.ContainsFunc(filters, func(f string) bool { return mqttcodec.MatchTopic(f, topic) })
}

// MayPublish implements sessions.Permissions.
func (d denied) MayPublish(topic string, _ mqttcodec.QoS, _ bool) bool {
	return !matchesAny(d.publish, topic)
}

// MaySubscribe implements sessions.Permissions.
func (d denied) MaySubscribe(filter string, _ mqttcodec.QoS) bool {
	return !slices.Contains(d.subscribe, filter)
}

// MayReceive implements sessions.Permissions.
func (d denied) MayReceive(topic string) bool { return !matchesAny(d.receive, topic) }

// riddle is an authentication method: the client names itself, is asked a riddle each round, and says the answer.
type riddle struct {
	answer      string
	rounds      int
	permissions map[string]sessions.Permissions
	// gate, if not nil, is waited for in every step.
	gate chan struct{}
}

// Begin implements sessions.Method.
func (r *riddle) Begin(sessions.Credentials) sessions.Exchange { return &riddleExchange{riddle: r} }

type riddleExchange struct {
	*riddle
	principal string
	round     int
}

// Step implements sessions.Exchange.
func (x *riddleExchange) Step(ctx context.Context, data []byte) (sessions.Progress, error) {
	if x.gate != nil {
		select {
		case <-x.gate:
		case <-ctx.Done():
			return sessions.Progress{}, ctx.Err()
		}
	}
	switch {
	case x.round == 0:
		x.principal = string(data)
	case bytes.Equal(data, []byte("broken")):
		return sessions.Progress{}, errors.New("the riddles have burnt")
	case bytes.Equal(data, []byte("elsewhere")):
		return sessions.Progress{}, &sessions.Refusal{Reason: mqttcodec.UseAnotherServer, ServerReference: "other:1883"}
	case string(data) != x.answer:
		return sessions.Progress{}, &sessions.Refusal{Reason: mqttcodec.BadUserNameOrPassword, Detail: "wrong answer"}
	}
	if x.round == x.rounds {
		return sessions.Progress{Data: []byte("welcome"), Done: true, Identity: sessions.Identity{
			Principal: x.principal, Permissions: x.permissions[x.principal],
		}}, nil
	}
	x.round++
	return sessions.Progress{Data: []byte("what is it?")}, nil
}
