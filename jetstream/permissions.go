package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Permission is a subject, with wildcards, that the NATS user of a broker must be allowed to publish or to subscribe to.
type Permission struct {
	Publish bool
	Subject string
	// For is what needs it.
	For string
	// probe is a subject that the permission covers, and that means nothing to anybody.
	probe string
}

// String is the permission in few words.
func (p Permission) String() string {
	if p.Publish {
		return "publish " + p.Subject
	}
	return "subscribe " + p.Subject
}

// nobody is a token that is no name of anything: it decodes to no topic, client identifier or key.
const nobody = "=check"

// Permissions are all that a broker's NATS user needs, and nothing else.
func (c *Config) Permissions() []Permission {
	n, api := c.Names, c.api()
	var list []Permission
	publish := func(subject, what string) {
		probe := strings.NewReplacer("*", nobody, ">", nobody).Replace(subject)
		list = append(list, Permission{Publish: true, Subject: subject, For: what, probe: probe})
	}
	subscribe := func(subject, what string) {
		list = append(list, Permission{Subject: subject, For: what, probe: strings.NewReplacer("*", nobody, ">", nobody).Replace(subject)})
	}
	subscribe(inboxPrefix+".>", "answers")
	subscribe(n.Subjects+".>", "news of what others publish to the log")
	subscribe("$KV."+n.RetainedBucket+".>", "news of what others write to the retained messages")
	publish(n.Subjects+".>", "messages")
	subscribe(n.LiveSubjects+".>", "what others publish on the live plane")
	publish(n.LiveSubjects+".>", "messages on the live plane")
	publish(n.JournalSubjects+".>", "delivery state of sessions")
	publish(n.CheckpointSubjects+".>", "checkpoints of the broker")
	publish(c.wire("$KV."+n.SessionBucket+".>"), "session records")
	publish(c.wire("$KV."+n.RetainedBucket+".>"), "retained messages")
	subscribe(claimSubject, "which clients have connected to other nodes")
	publish(claimSubject, "which clients have connected here")
	subscribe(nodeSubjects+">", "what other nodes ask")
	publish(nodeSubjects+">", "asking other nodes")
	if c.Events {
		publish(eventSubjects+">", "events")
	}
	if c.Presence.Enabled {
		publish(c.wire("$KV."+n.PresenceBucket+".>"), "presence of clients")
	}
	publish(api+"INFO", "limits of the account")
	for _, want := range topology(c) {
		publish(api+"STREAM.INFO."+want.Name, "looking at a stream")
		publish(api+"STREAM.CREATE."+want.Name, "making a stream that is missing")
		publish(api+"STREAM.UPDATE."+want.Name, "changing limits of a stream")
		publish(api+"STREAM.MSG.GET."+want.Name, "reading a message from the leader")
		publish(api+"DIRECT.GET."+want.Name, "reading messages")
	}
	if c.MaxDelayed > 0 {
		publish(n.DelayedSubjects+".*.>", "delayed messages")
		publish(api+"STREAM.MSG.DELETE."+n.DelayedStream, "removing delayed messages")
		for _, operation := range []string{"CREATE", "DELETE", "MSG.NEXT"} {
			publish(api+"CONSUMER."+operation+"."+n.DelayedStream+".>", "reading when delayed messages are due")
		}
	}
	publish(api+"STREAM.NAMES", "naming a stream that is in the way")
	for _, operation := range []string{"CREATE", "INFO", "DELETE", "RESET", "MSG.NEXT"} {
		publish(api+"CONSUMER."+operation+"."+n.Stream+".>", "queues of sessions, and reading the log")
	}
	publish(api+"CONSUMER.NAMES."+n.Stream, "finding shared subscriptions")
	publish("$JS.ACK."+n.Stream+".>", "acknowledging messages of shared subscriptions")
	publish("$JS.FC."+n.Stream+".>", "flow control of the log reader")
	return list
}

// MissingPermissions finds out which of the permissions the user of a connection does not have. What it sends has no effect.
func MissingPermissions(nc *nats.Conn, permissions []Permission, timeout time.Duration) ([]Permission, error) {
	var missing []Permission
	for _, p := range permissions {
		denied, err := p.denied(nc, timeout)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, clientErr(err))
		}
		if denied {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// denied tries a permission. The server tells of a violation before it answers the ping behind it, and of nothing else.
func (p Permission) denied(nc *nats.Conn, timeout time.Duration) (bool, error) {
	before := nc.LastError()
	if p.Publish {
		// A stream takes no message that is meant for another one, and the API no request that is none.
		m := &nats.Msg{Subject: p.probe, Header: nats.Header{headerExpectedStream: {nobody}}, Data: []byte("{}")}
		if err := nc.PublishMsg(m); err != nil {
			return false, err
		}
	} else {
		sub, err := nc.SubscribeSync(p.probe)
		if err != nil {
			return false, err
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed, and the subscription with it
	}
	if err := nc.FlushTimeout(timeout); err != nil {
		return false, err
	}
	after := nc.LastError()
	return after != before && errors.Is(after, nats.ErrPermissionViolation), nil //nolint:errorlint // whether it is the very same one
}
