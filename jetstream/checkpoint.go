package jetstream

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// checkpointFormat is the version of storedCheckpoint.
const checkpointFormat = 1

// storedCheckpoint is a checkpoint as it is stored, one message per node boot.
type storedCheckpoint struct {
	Format int `json:"v"`
	sessions.Checkpoint
}

func (s *Store) checkpointSubject(boot string) string {
	return s.config.Names.CheckpointSubjects + "." + EncodeToken(boot)
}

// SaveCheckpoint implements sessions.Store.
func (s *Store) SaveCheckpoint(ctx context.Context, c sessions.Checkpoint) error {
	data, err := json.Marshal(storedCheckpoint{Format: checkpointFormat, Checkpoint: c})
	if err != nil {
		return fmt.Errorf("checkpoint of %q: %w", c.Boot, err)
	}
	return s.writeCheckpoint(ctx, c.Boot, nil, data)
}

func (s *Store) writeCheckpoint(ctx context.Context, boot string, header nats.Header, data []byte) error {
	done := make(waiter, 1)
	s.publisher.publish(write{stream: s.config.Names.JournalStream, subject: s.checkpointSubject(boot), header: header, data: data, to: done})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
}

// Checkpoints implements sessions.Store. What is no checkpoint of ours is passed over.
func (s *Store) Checkpoints(ctx context.Context) ([]sessions.Checkpoint, error) {
	var all []sessions.Checkpoint
	err := s.journals.scan(ctx, s.config.Names.CheckpointSubjects+".>", 1, everything, func(m storedMessage) error {
		if m.deleted() {
			return nil
		}
		var c storedCheckpoint
		switch err := json.Unmarshal(m.data, &c); {
		case err != nil, c.Format != checkpointFormat, s.checkpointSubject(c.Boot) != m.subject:
			s.stats.InvalidRecords.Add(1)
			s.config.Logger.Error("a checkpoint is not ours or damaged; it is passed over", "subject", m.subject, "format", c.Format, "err", err)
		default:
			all = append(all, c.Checkpoint)
		}
		return nil
	})
	return all, err
}

// DeleteCheckpoint implements sessions.Store. A marker takes its place: what a stream has purged comes back when its server is
// killed soon after, and the next start would read the log from there.
func (s *Store) DeleteCheckpoint(ctx context.Context, boot string) error {
	marker := nats.Header{headerKVOperation: {"PURGE"}, headerTTL: {ttl(s.config.TombstoneTTL)}}
	return s.writeCheckpoint(ctx, boot, marker, nil)
}
