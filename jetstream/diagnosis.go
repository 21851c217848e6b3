package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/semver"

	"dunlin/sessions"
)

// Verdict is what a Finding means for a broker.
type Verdict string

// The verdicts.
const (
	Fine    Verdict = "ok"
	Doubt   Verdict = "warning" // it runs, but not as well as it could
	Failure Verdict = "failure" // it cannot run
)

// Finding is one thing that was looked at, and what to do about it unless it is Fine.
type Finding struct {
	Subject string  `json:"subject"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Advice  string  `json:"advice,omitempty"`
	// Passing: it may pass by itself, as when a cluster elects a leader.
	Passing bool `json:"passing,omitempty"`
}

// String is the finding in one line.
func (f Finding) String() string {
	if f.Advice == "" {
		return f.Subject + ": " + f.Text
	}
	return f.Subject + ": " + f.Text + ": " + f.Advice
}

// leastVersion is the oldest server that does: it resets consumers.
const leastVersion = "v2.14.0"

// leastPayload is the smallest maximum payload of a server that does: a session record may have a will of 64 KiB.
const leastPayload = 256 << 10

// Diagnose looks at the servers behind a connection: whether a broker with this configuration can use them. What cannot be found
// out after a failure is left out. MaxBytes may be 0: not decided yet.
func Diagnose(ctx context.Context, nc *nats.Conn, c Config) []Finding {
	d := diagnosis{nc: nc, config: &c}
	d.connection()
	if !d.permissions() {
		return d.findings
	}
	var err error
	if d.js, err = c.client(nc); err != nil {
		d.failure("JetStream", err.Error(), "")
		return d.findings
	}
	if d.account(ctx) {
		d.streams(ctx)
	}
	return d.findings
}

// FirstFailure is the first of the findings with which a broker cannot run, nil when there is none. It is ErrUnavailable when it
// may pass by itself.
func FirstFailure(findings []Finding) error {
	for _, f := range findings {
		switch {
		case f.Verdict != Failure:
		case f.Passing:
			return fmt.Errorf("%w: %s", sessions.ErrUnavailable, f)
		default:
			return errors.New(f.String())
		}
	}
	return nil
}

// RoomForLog is how many bytes the log should take at most, where nobody has said: most, or half of what the account may store.
// What it cannot find out, Diagnose tells.
func RoomForLog(ctx context.Context, nc *nats.Conn, c Config, most int64) int64 {
	js, err := c.client(nc)
	if err != nil {
		return most
	}
	ctx, cancel := context.WithTimeout(ctx, c.AckTimeout)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	if err != nil || info.Limits.MaxStore < 0 {
		return most
	}
	room := min(most, info.Limits.MaxStore/2)
	if limit := info.Limits.StoreMaxStreamBytes; limit > 0 {
		room = min(room, limit)
	}
	return room
}

type diagnosis struct {
	nc       *nats.Conn
	config   *Config
	js       natsjs.JetStream
	findings []Finding
	limits   natsjs.AccountLimits
}

func (d *diagnosis) fine(subject, format string, v ...any) {
	d.findings = append(d.findings, Finding{Subject: subject, Verdict: Fine, Text: fmt.Sprintf(format, v...)})
}

func (d *diagnosis) doubt(subject, text, advice string) {
	d.findings = append(d.findings, Finding{Subject: subject, Verdict: Doubt, Text: text, Advice: advice})
}

// passing is a failure of an answer that did not come.
func (d *diagnosis) passing(subject string, err error, advice string) {
	d.findings = append(d.findings, Finding{Subject: subject, Verdict: Failure, Text: err.Error(), Advice: advice, Passing: errors.Is(err, sessions.ErrUnavailable)})
}

func (d *diagnosis) failure(subject, text, advice string) {
	d.findings = append(d.findings, Finding{Subject: subject, Verdict: Failure, Text: text, Advice: advice})
}

// connection looks at the server that we are connected to.
func (d *diagnosis) connection() {
	version := d.nc.ConnectedServerVersion()
	where := d.nc.ConnectedServerName()
	if cluster := d.nc.ConnectedClusterName(); cluster != "" {
		where += " of cluster " + cluster
	}
	d.fine("connection", "%s at %s", where, d.nc.ConnectedUrlRedacted())
	if semver.Compare("v"+version, leastVersion) < 0 {
		d.failure("version", "nats-server "+version+" is too old", "use "+leastVersion[1:]+" or later, on every server of the cluster")
	} else {
		d.fine("version", "nats-server %s", version)
	}
	switch most := d.nc.MaxPayload(); {
	case most < leastPayload:
		d.failure("max_payload", fmt.Sprintf("the server takes messages of %d bytes at most", most), fmt.Sprintf("set its max_payload to %d or more", leastPayload))
	default:
		d.fine("max_payload", "%d bytes", most)
	}
}

// permissions reports whether the rest can be looked at.
func (d *diagnosis) permissions() bool {
	missing, err := MissingPermissions(d.nc, d.config.Permissions(), d.config.AckTimeout)
	if err != nil {
		d.passing("permissions", err, "")
		return false
	}
	if len(missing) == 0 {
		d.fine("permissions", "all that are needed")
		return true
	}
	var publish, subscribe []string
	for _, p := range missing {
		if p.Publish {
			publish = append(publish, fmt.Sprintf("%q", p.Subject))
		} else {
			subscribe = append(subscribe, fmt.Sprintf("%q", p.Subject))
		}
	}
	var lines []string
	if len(publish) > 0 {
		lines = append(lines, "to permissions.publish.allow "+strings.Join(publish, ", "))
	}
	if len(subscribe) > 0 {
		lines = append(lines, "to permissions.subscribe.allow "+strings.Join(subscribe, ", "))
	}
	d.failure("permissions", fmt.Sprintf("the NATS user lacks %d", len(missing)), "add "+strings.Join(lines, ", and "))
	return false
}

// account looks at what the account may use, and reports whether it has streams at all.
func (d *diagnosis) account(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, d.config.AckTimeout)
	defer cancel()
	info, err := d.js.AccountInfo(ctx)
	switch code := errorCode(err); {
	case errors.Is(err, natsjs.ErrJetStreamNotEnabledForAccount), code == 10039:
		d.failure("JetStream", "it is off for the account of this user", "enable it there: accounts { NAME { jetstream: enabled … } }")
		return false
	case errors.Is(err, natsjs.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders), code == 10076:
		where := "on the server"
		if d.config.Domain != "" {
			where = "in domain " + d.config.Domain
		}
		d.failure("JetStream", "it is off "+where, "start nats-server with -js, or jetstream { store_dir: … } in its configuration")
		return false
	case err != nil:
		d.passing("JetStream", clientErr(err), "see that most servers of the cluster run")
		return false
	}
	d.limits = info.Limits
	d.fine("JetStream", "%d streams, %d consumers, %s stored; limits: streams %s, consumers %s, storage %s", info.Streams, info.Consumers,
		bytesText(int64(info.Store)), countText(info.Limits.MaxStreams), countText(info.Limits.MaxConsumers), bytesText(info.Limits.MaxStore))
	if most := info.Limits.MaxConsumers; most > 0 && most < fewConsumers {
		d.doubt("limits", fmt.Sprintf("the account may have %d consumers", most), fmt.Sprintf("allow %d, or set sessions.max_parked_consumers and shares.max_groups to less", fewConsumers))
	}
	if most := info.Limits.MaxAckPending; most > 0 && most < sessions.MaxTaken {
		d.failure("limits", fmt.Sprintf("the account allows %d unacknowledged messages of a consumer", most), fmt.Sprintf("set its max_ack_pending to %d or more: shared subscriptions need it", sessions.MaxTaken))
	}
	if info.Limits.MaxBytesRequired {
		d.failure("limits", "the account requires max_bytes of every stream", "clear max_bytes_required: session state has no size that is known before")
	}
	return true
}

// fewConsumers is a limit of an account that many a broker meets.
const fewConsumers = 2500

// streams looks at our streams.
func (d *diagnosis) streams(ctx context.Context) {
	for _, want := range topology(d.config) {
		d.stream(ctx, want)
	}
}

func (d *diagnosis) stream(ctx context.Context, want natsjs.StreamConfig) {
	ctx, cancel := context.WithTimeout(ctx, d.config.AckTimeout)
	defer cancel()
	subject := "stream " + want.Name
	asked := time.Now()
	stream, err := d.js.Stream(ctx, want.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		// One of this name was made between the two questions, by a broker that starts too.
		if other, err := d.js.StreamNameBySubject(ctx, want.Subjects[0]); err == nil && other != want.Name {
			d.failure(subject, "stream "+other+" takes its subjects "+strings.Join(want.Subjects, " "), "change it, or let us use other names")
			return
		}
		if most := d.limits.StoreMaxStreamBytes; most > 0 && want.MaxBytes > most {
			d.failure(subject, fmt.Sprintf("it may be %s large, the account allows %s", bytesText(want.MaxBytes), bytesText(most)), "set "+bytesSetting(&want)+" to less")
			return
		}
		d.fine(subject, "it is not there yet; the broker makes it")
		return
	}
	if err != nil {
		d.passing(subject, clientErr(err), "see that most servers of the cluster run")
		return
	}
	info := stream.CachedInfo()
	if want.Replicas == 0 {
		want.Replicas = info.Config.Replicas
	}
	if err := checkShape(info.Config, want); err != nil {
		d.failure(subject, err.Error(), "")
		return
	}
	d.fine(subject, "%d messages, %s, %d consumers, %d replicas", info.State.Msgs, bytesText(int64(info.State.Bytes)), info.State.Consumers, info.Config.Replicas)
	if info.Cluster != nil && d.nc.ConnectedClusterName() != "" {
		d.replicas(subject, info)
	}
	if want.Metadata[metadataKind] != kindLog {
		return
	}
	var clock logClock
	if ahead, telling := clock.set(info.TimeStamp, asked, time.Now()); telling {
		d.doubt("clock", fmt.Sprintf("the server's is %v ahead of ours", ahead.Round(time.Millisecond)), "synchronize them, or messages expire too early or too late")
	} else {
		d.fine("clock", "the server's is %v ahead of ours", ahead.Round(time.Millisecond))
	}
	d.consumers(ctx, stream)
}

// replicas looks at the servers that keep a stream.
func (d *diagnosis) replicas(subject string, info *natsjs.StreamInfo) {
	if info.Cluster.Leader == "" {
		d.passing(subject, fmt.Errorf("%w: it has no leader", sessions.ErrUnavailable), "see that most servers of the cluster run")
		return
	}
	var behind []string
	for _, r := range info.Cluster.Replicas {
		if r.Offline || !r.Current {
			behind = append(behind, r.Name)
		}
	}
	switch {
	case len(behind) > 0:
		d.doubt(subject, "replicas that are away or behind: "+strings.Join(behind, ", "), "see that these servers run")
	case info.Config.Replicas == 1:
		d.doubt(subject, "one server of the cluster keeps it: "+info.Cluster.Leader, "set storage.replicas to 3, so that it outlives that server")
	}
}

// consumers counts those of the log by what they are for.
func (d *diagnosis) consumers(ctx context.Context, stream natsjs.Stream) {
	queues, shares, readers, others := 0, 0, 0, 0
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		switch {
		case strings.HasPrefix(name, d.config.Names.QueuePrefix):
			queues++
		case strings.HasPrefix(name, d.config.Names.GroupPrefix):
			shares++
		case strings.HasPrefix(name, readerPrefix):
			readers++
		default:
			others++
		}
	}
	if err := names.Err(); err != nil {
		d.doubt("consumers", clientErr(err).Error(), "")
		return
	}
	d.fine("consumers", "%d of sessions, %d of shared subscriptions, %d that read the log, %d of others", queues, shares, readers, others)
}

// DiagnoseSync finds out how long a write may be in the page cache only, from the monitoring endpoint /jsz of a server, as JSON.
func DiagnoseSync(jsz []byte, durability Durability) Finding {
	var answer struct {
		Config struct {
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		} `json:"config"`
	}
	f := Finding{Subject: "sync_interval", Verdict: Fine}
	err := json.Unmarshal(jsz, &answer)
	switch always, interval := answer.Config.SyncAlways, answer.Config.SyncInterval; {
	case err != nil:
		f.Verdict, f.Text = Doubt, "the answer of the monitoring endpoint makes no sense: "+err.Error()
	case always:
		f.Text = "every write is synced before it is answered"
	case durability == Fsync:
		f.Verdict, f.Text = Failure, fmt.Sprintf("writes are synced every %v, and storage.durability is fsync", interval)
		f.Advice = "set sync_interval: always in the server's jetstream block, or storage.durability to process"
	case interval > 10*time.Second:
		f.Verdict, f.Text = Doubt, fmt.Sprintf("a power loss of all servers at once can take the last %v", interval)
		f.Advice = "set sync_interval: 1s in the server's jetstream block"
	default:
		f.Text = fmt.Sprintf("a power loss of all servers at once can take the last %v", interval)
	}
	return f
}

// bytesText is a number of bytes for people; less than 0 is no limit.
func bytesText(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return humanize.IBytes(uint64(n))
}

// countText is a limit for people; less than 1 is none.
func countText(n int) string {
	if n < 1 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}
