package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

const (
	// metadataMigration marks a log that is being taken over: nobody uses it, and the other streams, until the mark is gone.
	metadataMigration = "dunlin.migration"
	// metadataCreated is when a log that was taken over was made, in RFC 3339: positions in it are older than the stream.
	metadataCreated = "dunlin.created"
)

const (
	// snapshotChunk is how much of a snapshot one message carries: servers take 1 MiB at least by default.
	snapshotChunk = 512 << 10
	// snapshotChunks is how many chunks may come before they are taken: of 8 MiB, the server's window, and the end.
	snapshotChunks = 64
	// chunkTimeout is how long the next chunk, or its confirmation, may take; restoredTimeout the end of it, when the server looks
	// through what it got and hands it to the replicas.
	chunkTimeout    = time.Minute
	restoredTimeout = 10 * time.Minute
	// interestWithin is how long the servers of a cluster may take to hear who listens.
	interestWithin = 5 * time.Second
	// sameTimeout is how long the two sides may differ: what expires is not removed at the same moment.
	sameTimeout = 20 * time.Second
)

// MigratedStream is a stream that was taken over.
type MigratedStream struct {
	Name            string
	Messages, Bytes uint64
	First, Last     uint64
	Replicas        int
	// Consumers is how many came with it: shared subscriptions, and those of other NATS programs.
	Consumers int
}

// Migration takes our streams from one JetStream to another, with their sequences, times and consumers.
type Migration struct {
	// From is where they are, a server that nobody else uses. To must not have them.
	From, To *nats.Conn
	// Config is that of the broker. Replicas 0: three in a cluster.
	Config Config
	// Done is told of each stream that was taken over and compared.
	Done func(MigratedStream)
}

// Run carries it out. When it fails, what it has made in To is removed again; From is only read. It returns the names of the
// streams in From that are not ours, and stay.
func (m *Migration) Run(ctx context.Context) (left []string, err error) {
	source, err := natsjs.New(m.From)
	if err != nil {
		return nil, err
	}
	target, err := m.Config.client(m.To)
	if err != nil {
		return nil, err
	}
	ours, left, err := m.look(ctx, source, target)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, name := range ours {
		made = append(made, name)
		if err = m.take(ctx, source, target, name); err != nil {
			break
		}
	}
	if err == nil {
		err = m.release(ctx, target)
	}
	if err == nil {
		return left, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chunkTimeout)
	defer cancel()
	for _, name := range made {
		if undo := target.DeleteStream(ctx, name); undo != nil && !errors.Is(undo, natsjs.ErrStreamNotFound) {
			err = fmt.Errorf("%w; and remove stream %s before you try again: %w", err, name, clientErr(undo))
		}
	}
	return nil, err
}

// look finds out which streams are to be taken, the log first, and that they are not there yet.
func (m *Migration) look(ctx context.Context, source, target natsjs.JetStream) (ours, left []string, err error) {
	all := m.Config
	all.Presence.Enabled, all.MaxDelayed = true, max(all.MaxDelayed, 1)
	var known []string
	for _, want := range topology(&all) {
		known = append(known, want.Name)
	}
	there, err := streamNames(ctx, source)
	if err != nil {
		return nil, nil, fmt.Errorf("list the streams that are to be taken: %w", err)
	}
	for _, name := range known {
		if slices.Contains(there, name) {
			ours = append(ours, name)
		}
	}
	if len(ours) == 0 || ours[0] != m.Config.Names.Stream {
		return nil, nil, fmt.Errorf("there is no stream %s to be taken, but only %q", m.Config.Names.Stream, there)
	}
	left = slices.DeleteFunc(there, func(name string) bool { return slices.Contains(ours, name) })
	present, err := streamNames(ctx, target)
	if err != nil {
		return nil, nil, fmt.Errorf("list the streams of the target: %w", err)
	}
	present = slices.DeleteFunc(present, func(name string) bool { return !slices.Contains(known, name) })
	if len(present) > 0 {
		return nil, nil, fmt.Errorf("the target has streams of a broker already, %s: it must have none; a cluster of Dunlins waits for them with cluster.await_migration", strings.Join(present, " "))
	}
	return ours, left, nil
}

func streamNames(ctx context.Context, js natsjs.JetStream) ([]string, error) {
	lister := js.StreamNames(ctx)
	var names []string
	for name := range lister.Name() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, clientErr(lister.Err())
}

// take takes one stream over and compares.
func (m *Migration) take(ctx context.Context, source, target natsjs.JetStream, name string) error {
	stream, err := source.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", name, clientErr(err))
	}
	if err := m.transfer(ctx, stream.CachedInfo()); err != nil {
		return fmt.Errorf("take over stream %s: %w", name, err)
	}
	deadline := time.Now().Add(sameTimeout)
	for {
		taken, difference, err := compare(ctx, source, target, name)
		switch {
		case err == nil && difference == "":
			m.Done(taken)
			return nil
		case time.Now().Before(deadline) && ctx.Err() == nil && (err == nil || errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrNotFound)):
			select { // the replicas follow in a moment
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		case err != nil:
			return fmt.Errorf("compare stream %s: %w", name, err)
		default:
			return fmt.Errorf("stream %s was not taken over whole: %s", name, difference)
		}
	}
}

// snapshotAnswer and restoreAnswer are the server's answers to the requests.
type (
	snapshotAnswer struct {
		Error  *apiError                  `json:"error"`
		Config map[string]json.RawMessage `json:"config"`
		State  json.RawMessage            `json:"state"`
	}
	restoreAnswer struct {
		Error   *apiError `json:"error"`
		Deliver string    `json:"deliver_subject"`
	}
)

// transfer passes a snapshot on, chunk by chunk, as it comes.
func (m *Migration) transfer(ctx context.Context, info *natsjs.StreamInfo) error {
	chunks := make(chan *nats.Msg, snapshotChunks)
	inbox := m.From.NewInbox()
	sub, err := m.From.ChanSubscribe(inbox, chunks)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is closed
	var snapshot snapshotAnswer
	request := map[string]any{"deliver_subject": inbox, "jsck": true, "chunk_size": snapshotChunk}
	if err := call(ctx, m.From, natsjs.DefaultAPIPrefix+"STREAM.SNAPSHOT."+info.Config.Name, request, &snapshot); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if snapshot.Error != nil {
		return fmt.Errorf("snapshot: %w", snapshot.Error.err())
	}
	restore := ""
	for {
		chunk, err := next(ctx, chunks)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if restore == "" { // the server waits only for a moment
			if restore, err = m.begin(ctx, info, snapshot); err != nil {
				return err
			}
		}
		if len(chunk.Data) == 0 {
			if code := status(chunk); code >= 400 {
				return fmt.Errorf("snapshot: the server has ended it with %d %s", code, chunk.Header.Get("Description"))
			}
			return m.send(ctx, restore, nil, restoredTimeout)
		}
		if err := m.send(ctx, restore, chunk.Data, chunkTimeout); err != nil {
			return err
		}
		if chunk.Reply != "" {
			if err := chunk.Respond(nil); err != nil {
				return fmt.Errorf("snapshot: %w", err)
			}
		}
	}
}

// peersWithin is how long the target may be without servers for a stream before that is taken for what it is.
const peersWithin = 5 * time.Second

// begin asks the target for the subject that takes the chunks.
func (m *Migration) begin(ctx context.Context, info *natsjs.StreamInfo, snapshot snapshotAnswer) (subject string, err error) {
	config := maps.Clone(snapshot.Config)
	replicas := m.Config.Replicas
	if replicas == 0 && m.To.ConnectedClusterName() != "" {
		replicas = replicasByDefault
	}
	set := func(key string, value any) {
		if config[key], err = json.Marshal(value); err != nil {
			panic(err) // cannot fail: numbers and strings
		}
	}
	set("num_replicas", max(replicas, 1))
	if info.Config.Name == m.Config.Names.Stream {
		metadata := maps.Clone(info.Config.Metadata)
		if metadata == nil {
			metadata = map[string]string{}
		}
		metadata[metadataMigration] = "under way"
		if metadata[metadataCreated] == "" {
			metadata[metadataCreated] = info.Created.Format(time.RFC3339Nano)
		}
		set("metadata", metadata)
	}
	var answer restoreAnswer
	request := map[string]any{"config": config, "state": snapshot.State}
	for begin := time.Now(); ; {
		answer = restoreAnswer{}
		if err := call(ctx, m.To, m.Config.api()+"STREAM.RESTORE."+info.Config.Name, request, &answer); err != nil {
			return "", fmt.Errorf("restore: %w", err)
		}
		if answer.Error == nil || answer.Error.ErrCode != codeNoSuitablePeers || time.Since(begin) >= peersWithin {
			break
		}
		select { // a server that has just started may still be taken for one that is off
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch {
	case answer.Error != nil && (answer.Error.ErrCode == codeNoSuitablePeers || answer.Error.ErrCode == codeReplicasNotSupported):
		return "", fmt.Errorf("restore: %w: the target cannot keep it on %d servers: start them, or set storage.replicas to fewer", answer.Error.err(), replicas)
	case answer.Error != nil:
		return "", fmt.Errorf("restore: %w", answer.Error.err())
	}
	return answer.Deliver, nil
}

// send sends a chunk, or nil for the end, and waits until the target has it.
func (m *Migration) send(ctx context.Context, subject string, chunk []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	begin := time.Now()
	confirmed, err := m.To.RequestWithContext(ctx, subject, chunk)
	for errors.Is(err, nats.ErrNoResponders) && time.Since(begin) < interestWithin {
		select { // the server that we are connected to has not heard yet who takes it
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
		confirmed, err = m.To.RequestWithContext(ctx, subject, chunk)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", clientErr(err))
	}
	var answer restoreAnswer
	if len(confirmed.Data) > 0 {
		if err := json.Unmarshal(confirmed.Data, &answer); err != nil {
			return fmt.Errorf("restore: answer %q: %w", confirmed.Data, err)
		}
	}
	if answer.Error != nil {
		return fmt.Errorf("restore: %w", answer.Error.err())
	}
	return nil
}

func next(ctx context.Context, chunks <-chan *nats.Msg) (*nats.Msg, error) {
	select {
	case chunk := <-chunks:
		return chunk, nil
	case <-time.After(chunkTimeout):
		return nil, fmt.Errorf("%w: nothing has come for %v", sessions.ErrUnavailable, chunkTimeout)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// call is a request of a server's API, with a plain answer.
func call(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, chunkTimeout)
	defer cancel()
	got, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return clientErr(err)
	}
	return json.Unmarshal(got.Data, answer)
}

// compare says in what a stream differs on the two sides, empty when it is the same.
func compare(ctx context.Context, source, target natsjs.JetStream, name string) (taken MigratedStream, difference string, err error) {
	from, err := source.Stream(ctx, name)
	if err != nil {
		return taken, "", clientErr(err)
	}
	to, err := target.Stream(ctx, name)
	if err != nil {
		return taken, "", clientErr(err)
	}
	was, is := from.CachedInfo().State, to.CachedInfo().State
	taken = MigratedStream{Name: name, Messages: is.Msgs, Bytes: is.Bytes, First: is.FirstSeq, Last: is.LastSeq, Replicas: to.CachedInfo().Config.Replicas}
	if was.Msgs != is.Msgs || was.LastSeq != is.LastSeq || was.FirstSeq != is.FirstSeq && was.Msgs > 0 {
		return taken, fmt.Sprintf("%d messages from %d to %d, there were %d from %d to %d", is.Msgs, is.FirstSeq, is.LastSeq, was.Msgs, was.FirstSeq, was.LastSeq), nil
	}
	consumers := from.ListConsumers(ctx)
	for was := range consumers.Info() {
		if was.Config.MemoryStorage || was.Config.Durable == "" { // made anew when it is needed
			continue
		}
		is, err := infoOf(to.Consumer(ctx, was.Name))
		if err != nil {
			return taken, "", fmt.Errorf("consumer %s: %w", was.Name, clientErr(err))
		}
		if was.Delivered.Stream != is.Delivered.Stream || was.AckFloor.Stream != is.AckFloor.Stream || was.NumAckPending != is.NumAckPending || was.NumPending != is.NumPending {
			return taken, fmt.Sprintf("consumer %s is at %d, acknowledged up to %d, with %d unacknowledged and %d waiting; it was at %d, %d, %d and %d", was.Name,
				is.Delivered.Stream, is.AckFloor.Stream, is.NumAckPending, is.NumPending, was.Delivered.Stream, was.AckFloor.Stream, was.NumAckPending, was.NumPending), nil
		}
		taken.Consumers++
	}
	return taken, "", clientErr(consumers.Err())
}

// release lets brokers use the streams.
func (m *Migration) release(ctx context.Context, target natsjs.JetStream) error {
	stream, err := target.Stream(ctx, m.Config.Names.Stream)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", m.Config.Names.Stream, clientErr(err))
	}
	config := stream.CachedInfo().Config
	delete(config.Metadata, metadataMigration)
	if _, err := target.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("release stream %s: %w", config.Name, clientErr(err))
	}
	return nil
}
