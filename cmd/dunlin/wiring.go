package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"dunlin/actors"
	"dunlin/jetstream"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// node is one running broker. Immutable after startBroker.
type node struct {
	at     addresses
	broker *actors.Broker
	// interest reports whether anybody listens to a subject, nil when the server is not in this process.
	interest func(subject string) bool
	// embedded is the NATS server in this process, nil with servers outside.
	embedded *jetstream.Embedded
	// stops end the parts, in the order in which these were started.
	stops []func(context.Context) error
}

var _ broker = (*node)(nil)

// startBroker introduces the parts to one another and starts them, storage first, listeners for clients last.
func startBroker(ctx context.Context, c Config, log *slog.Logger) (broker, error) {
	n := new(node)
	if err := n.start(ctx, c, log); err != nil {
		return nil, errors.Join(err, n.Shutdown(context.WithoutCancel(ctx)))
	}
	return n, nil
}

func (n *node) start(ctx context.Context, c Config, log *slog.Logger) error {
	patience := patience{log: log}
	connect := n.connectInside
	switch {
	case c.NATS.URL != "":
		connect = connectOutside
		patience.until = time.Now().Add(c.NATS.ConnectTimeout)
	case c.Cluster.Listen != wordOff:
		patience.until = time.Now().Add(c.Cluster.StartTimeout)
	}
	var connection *jetstream.Conn
	err := patience.try(ctx, func() (err error) {
		connection, err = connect(ctx, &c, log)
		return err
	})
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) error { connection.Close(); return nil })
	if c.NATS.URL != "" {
		n.at.NATS = connection.ConnectedAddr()
	} else if err := patience.try(ctx, n.embedded.AwaitLeader); err != nil {
		return err
	}

	if c.Cluster.AwaitMigration {
		patience.until = time.Now().AddDate(1, 0, 0) // somebody has to do it
	}
	var storage *jetstream.Storage
	err = patience.try(ctx, func() (err error) {
		storage, err = jetstream.Open(ctx, connection, storageConfig(c, log))
		return err
	})
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) error { storage.Close(); return nil })

	parts := actors.Storage{
		Log: storage.Log(), Store: storage.Store(), Queues: storage.Queues(), Retained: storage.Retained(),
		Shared: storage.Shared(), Delayed: storage.Delayed(),
	}
	if parts.Live, err = n.openLive(c, storage, log); err != nil {
		return err
	}
	if !c.alone() {
		parts.Nodes = storage.Nodes()
	}
	if c.Events.Enabled {
		events := jetstream.NewEvents(connection, n.interest)
		n.onStop(func(context.Context) error { return events.Close() })
		parts.Events = events
	}
	if c.Presence.Enabled {
		parts.Presence = storage.Presence()
	}
	config := brokerConfig(c)
	if config.Node, err = nodeName(c.Storage.DataDir); err != nil {
		return err
	}
	err = patience.try(ctx, func() (err error) {
		n.broker, err = actors.Start(ctx, config, parts, log)
		return err
	})
	if err != nil {
		return err
	}
	n.onStop(n.broker.Shutdown)
	n.at.MQTT = n.broker.Addr()
	n.at.WebSocket = cmp.Or(n.broker.WebSocketAddr(), wordOff)
	return nil
}

// connectInside starts the NATS server in this process and connects to it.
func (n *node) connectInside(_ context.Context, c *Config, log *slog.Logger) (*jetstream.Conn, error) {
	config := embeddedConfig(*c, log)
	if config.Cluster.Enabled() {
		var err error
		if config.ServerName, err = nodeName(c.Storage.DataDir); err != nil {
			return nil, err
		}
	}
	embedded, err := jetstream.StartEmbedded(config)
	if err != nil {
		return nil, err
	}
	n.onStop(func(ctx context.Context) error { return stopNATS(ctx, embedded.Shutdown, log) })
	n.embedded = embedded
	n.at.NATS = cmp.Or(embedded.Address(), wordOff)
	n.interest = embedded.HasInterest
	return embedded.Connect()
}

// openLive opens the live plane, nil when nobody else can be on it. To a server that is one of a cluster much comes for other
// nodes only, as to one outside.
func (n *node) openLive(c Config, storage *jetstream.Storage, log *slog.Logger) (sessions.Live, error) {
	connect := func() (*jetstream.Conn, error) { return jetstream.ConnectExternal(externalConfig(c, log)) }
	alone := n.embedded
	switch {
	case c.alone():
		return nil, nil //nolint:nilnil // a node that is alone has none
	case c.Cluster.Listen != wordOff:
		connect, alone = n.embedded.Connect, nil
	case n.embedded != nil:
		connect = n.embedded.Connect
	}
	live, err := jetstream.OpenLive(connect, alone, storageConfig(c, log), storage.Stats())
	if err != nil {
		return nil, fmt.Errorf("live plane: %w", err)
	}
	n.onStop(func(context.Context) error { live.Close(); return nil })
	return live, nil
}

// connectOutside connects to NATS servers that are not ours, and makes sure that they do. What they allow bounds the
// configuration.
func connectOutside(ctx context.Context, c *Config, log *slog.Logger) (*jetstream.Conn, error) {
	connection, err := jetstream.ConnectExternal(externalConfig(*c, log))
	if err != nil {
		return nil, err
	}
	findings := jetstream.Diagnose(ctx, connection, storageConfig(*c, log))
	for _, f := range findings {
		if f.Verdict == jetstream.Doubt {
			log.Warn("NATS: "+f.Text, "about", f.Subject, "advice", f.Advice)
		}
	}
	if err := jetstream.FirstFailure(findings); err != nil {
		at := connection.ConnectedUrlRedacted()
		connection.Close()
		return nil, fmt.Errorf("NATS at %s will not do: %w", at, err)
	}
	if c.Storage.MaxBytes == 0 {
		c.Storage.MaxBytes = jetstream.RoomForLog(ctx, connection, storageConfig(*c, log), mostBytes)
	}
	if most := connection.MaxPayload() - payloadHeadroom; c.Limits.MaxPacket > most {
		log.Warn("limits.max_packet is bounded by max_payload of the NATS server", "asked", c.Limits.MaxPacket, "now", most)
		c.Limits.MaxPacket = most
	}
	return connection, nil
}

// patience is how long a start puts up with storage that is not there yet: servers that start too, or elect a leader.
type patience struct {
	until time.Time
	log   *slog.Logger
}

const (
	// betweenTries is the time from one attempt to the next.
	betweenTries = 500 * time.Millisecond
	// triesPerWord is how many of them fail for each word about it.
	triesPerWord = 10
)

// try repeats what fails with ErrUnavailable.
func (p patience) try(ctx context.Context, attempt func() error) error {
	for n := 1; ; n++ {
		err := attempt()
		if !errors.Is(err, sessions.ErrUnavailable) || ctx.Err() != nil || time.Now().After(p.until) {
			return err
		}
		if n%triesPerWord == 1 {
			p.log.Warn("NATS is not ready yet", "cause", err, "waiting", time.Until(p.until).Round(time.Second))
		}
		select {
		case <-time.After(betweenTries):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mostBytes is the largest log that nobody has asked for.
const mostBytes = 10 * gibibyte

func (n *node) onStop(stop func(context.Context) error) { n.stops = append(n.stops, stop) }

// stopNATS stops the embedded server. It closes the queues of shared subscriptions one by one: when there are too many for
// the time that is left, it ends with the process. All of ours is stored by then, so that this is no failure.
func stopNATS(ctx context.Context, shutdown func(context.Context) error, log *slog.Logger) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-stopMargin))
		defer cancel()
	}
	err := shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		log.Info("the embedded NATS server ends with the process", "cause", err)
		return nil
	}
	return err
}

// stopMargin is what is left of the time to stop when the embedded server has not stopped.
const stopMargin = 200 * time.Millisecond

// Addresses implements broker.
func (n *node) Addresses() addresses { return n.at }

// Failed implements broker.
func (n *node) Failed() <-chan struct{} { return n.broker.Failed() }

// Company implements broker.
func (n *node) Company() bool { return n.broker.Company() }

// Drain implements broker.
func (n *node) Drain(ctx context.Context) { n.broker.Drain(ctx) }

// DrainAsked implements broker.
func (n *node) DrainAsked() <-chan struct{} { return n.broker.DrainAsked() }

// Shutdown implements broker: each part ends before those that it was built on.
func (n *node) Shutdown(ctx context.Context) error {
	var failed []error
	for _, stop := range slices.Backward(n.stops) {
		failed = append(failed, stop(ctx))
	}
	return errors.Join(failed...)
}

// payloadHeadroom is what the headers of a stored message may take beside its payload: JetStream takes up to 64 KiB.
const payloadHeadroom = 128 << 10

func embeddedConfig(c Config, log *slog.Logger) jetstream.EmbeddedConfig {
	e := jetstream.DefaultEmbeddedConfig(c.Storage.DataDir)
	e.Listen = c.NATS.Listen
	e.Durability = jetstream.Durability(c.Storage.Durability)
	e.MaxPayload = max(e.MaxPayload, int32(c.Limits.MaxPacket)+payloadHeadroom)
	e.Cluster = clusterConfig(c)
	e.Logger = log
	return e
}

func clusterConfig(c Config) jetstream.ClusterConfig {
	if c.Cluster.Listen == wordOff {
		return jetstream.ClusterConfig{}
	}
	routes := strings.FieldsFunc(c.Cluster.Routes, func(r rune) bool { return r == ',' || r == ' ' })
	return jetstream.ClusterConfig{
		Listen: c.Cluster.Listen, Routes: routes, Name: c.Cluster.Name, Advertise: c.Cluster.Advertise,
		User: c.Cluster.User, Password: c.Cluster.Password,
		TLSCA: c.Cluster.TLSCA, TLSCert: c.Cluster.TLSCert, TLSKey: c.Cluster.TLSKey, Insecure: c.Cluster.Insecure,
	}
}

func externalConfig(c Config, log *slog.Logger) jetstream.ExternalConfig {
	return jetstream.ExternalConfig{
		URLs: c.NATS.URL, Credentials: c.NATS.Creds, NKey: c.NATS.NKey,
		User: c.NATS.User, Password: c.NATS.Password, Token: c.NATS.Token,
		TLSCA: c.NATS.TLSCA, TLSCert: c.NATS.TLSCert, TLSKey: c.NATS.TLSKey,
		Logger: log,
	}
}

func storageConfig(c Config, log *slog.Logger) jetstream.Config {
	s := jetstream.DefaultConfig()
	s.Names, s.Mapping = streamNames(c), jetstream.Mapping(c.Topics.Mapping)
	s.Durability = jetstream.Durability(c.Storage.Durability)
	s.MaxAge, s.MaxBytes, s.KeepMaxBytes = c.Storage.MaxAge, c.Storage.MaxBytes, c.Storage.KeepMaxBytes
	s.Replicas, s.Domain = c.Storage.Replicas, c.NATS.JSDomain
	switch {
	case c.Cluster.Listen != wordOff:
		s.AwaitServers, s.AwaitMigration = true, c.Cluster.AwaitMigration
	case c.NATS.URL == "":
		s.Replicas = 1
	}
	s.Events = c.Events.Enabled
	s.Presence = jetstream.PresenceConfig{Enabled: c.Presence.Enabled, OfflineTTL: c.Presence.OfflineTTL}
	s.MaxDelayed, s.MaxDelayedBytes = 0, c.Delayed.MaxBytes
	if c.Delayed.Enabled {
		s.MaxDelayed = c.Delayed.MaxMessages
	}
	s.Logger = log
	return s
}

// streamNames are the names of all that is in NATS.
func streamNames(c Config) jetstream.Names {
	n := jetstream.DefaultConfig().Names
	n.Subjects, n.LiveSubjects = c.Topics.Prefix, c.Topics.LivePrefix
	return n
}

func brokerConfig(c Config) actors.Config {
	b := actors.DefaultConfig(rand.Text())
	b.Listen, b.ListenWebSocket = c.Listeners.MQTT, c.Listeners.WebSocket
	if b.ListenWebSocket == wordOff {
		b.ListenWebSocket = ""
	}
	b.MaxConnections = c.Limits.MaxConnections
	b.ConnectRate = c.Limits.ConnectRate
	b.ConnectTimeout, b.WriteTimeout = c.Limits.ConnectTimeout, c.Limits.WriteTimeout
	b.MaxParkedQueues = c.Sessions.MaxParkedConsumers
	b.SharedReadFrom = c.Sessions.SharedReadFrom
	b.MaxRetained = c.Limits.MaxRetained
	b.MaxShares = c.Shares.MaxGroups
	b.MaxReplays = c.Replay.MaxActive
	b.DeadAfter, b.IsolationTimeout = c.Nodes.DeadAfter, c.Nodes.IsolationTimeout
	b.DrainTimeout, b.ServerReference = c.Nodes.DrainTimeout, c.Nodes.ServerReference
	s := &b.Sessions
	s.MaxExpiry = c.Sessions.MaxExpiry
	s.DefaultExpiryV3 = c.Sessions.DefaultExpiryV3
	s.MaxQueuedMessages = c.Sessions.MaxQueuedMessages
	s.Overflow = sessions.Overflow(c.Sessions.Overflow)
	s.QueueQoS0 = c.Sessions.QueueQoS0
	s.SendWindow = c.Sessions.SendWindow
	s.ReceiveMaximum = uint16(c.Limits.ReceiveMaximum)
	s.RequestTimeout = c.Requests.Timeout
	s.TopicAliasMaximum = uint16(c.Limits.TopicAliasMaximum)
	s.MaxPacketSize = uint32(c.Limits.MaxPacket)
	s.MaxKeepAlive = c.Limits.MaxKeepAlive
	s.MaxSubscriptions = c.Limits.MaxSubscriptions
	s.SharedSubscriptions = c.Shares.MaxGroups > 0
	s.ReplayRate = 0
	if c.Replay.Enabled {
		s.ReplayRate = c.Replay.MaxRate
	}
	s.MaxDelay = 0
	if c.Delayed.Enabled {
		s.MaxDelay = time.Duration(c.Delayed.MaxSeconds) * time.Second
	}
	s.TopicFits = topicFits(jetstream.Mapping(c.Topics.Mapping), c.Topics.MaxLength, c.Limits.MaxTopicLevels)
	return b
}

// topicFits bounds topic names and filters by their levels, to those that have a subject and, where they are stored, by the
// length of that. Of a shared subscription it is the filter behind the share name that becomes one.
func topicFits(mapping jetstream.Mapping, maxLength, maxLevels int) func(topic string, stored bool) bool {
	const worst = len("=00") + 1 // what escaping can make of a byte
	return func(topic string, stored bool) bool {
		if strings.Count(topic, "/") >= maxLevels {
			return false
		}
		if _, filter, shared := mqttcodec.SharedFilter(topic); shared {
			topic = filter
		}
		if !stored || worst*(len(topic)+1) <= maxLength {
			return mapping.Represents(topic)
		}
		subject, represented := mapping.Subject(topic) // of a filter as long as its subjects
		return represented && len(subject) <= maxLength
	}
}
