package sessions

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// recordFormat is the version of the record's encoding. Version 1 had no principal: its sessions are of anonymous clients.
const recordFormat = 2

// Record is the durable document that says that a session exists, and what it is. It is JSON, so that plain NATS
// tools show it.
type Record struct {
	Format   int    `json:"format"`
	ClientID string `json:"client_id"`
	// Incarnation tells this session from others that had, or will have, the same client identifier.
	Incarnation string `json:"incarnation"`
	// Owner is the node boot that claimed the session, Epoch the revision of the claiming write (0 in that write itself).
	Owner string `json:"owner"`
	Epoch uint64 `json:"epoch,omitempty"`
	// Nonce is that of the CONNECT which claimed it.
	Nonce string `json:"nonce"`
	// Principal owns the session, empty for an anonymous client.
	Principal string            `json:"principal,omitempty"`
	Protocol  mqttcodec.Version `json:"protocol"`
	// ExpirySeconds is the Session Expiry Interval in force; 4294967295 never passes. [MQTT-3.1.2-23]
	ExpirySeconds uint32 `json:"expiry_seconds"`
	// DetachedAt is when the connection ended; absent while there is one, or after a crash.
	DetachedAt    *time.Time     `json:"detached_at,omitempty"`
	Subscriptions []Subscription `json:"subscriptions,omitempty"`
	// Will is the will that is still to be published, if the connection ends or ended without DISCONNECT.
	Will *mqttcodec.Will `json:"will,omitempty"`
}

// Subscription is one topic filter of a session with its options. (3.8.3)
type Subscription struct {
	Filter            string                   `json:"filter"`
	QoS               mqttcodec.QoS            `json:"qos"`
	NoLocal           bool                     `json:"no_local,omitempty"`
	RetainAsPublished bool                     `json:"retain_as_published,omitempty"`
	RetainHandling    mqttcodec.RetainHandling `json:"retain_handling,omitempty"`
	// Identifier is 0 when the client gave none.
	Identifier uint32 `json:"identifier,omitempty"`
	// Since is the position of the first SUBSCRIBE: older messages are not for this subscription.
	Since Position `json:"since"`
	// FormerQoS is what it was granted before it was lowered to QoS 0, for messages up to FormerUntil, which may be queued.
	FormerQoS   mqttcodec.QoS `json:"former_qos,omitempty"`
	FormerUntil Position      `json:"former_until,omitzero"`

	// plain: the filter has no wildcard, so it matches what it equals.
	plain bool
	// answers: the filter is for answers to the session's own requests.
	answers bool
}

// grantedFor is the QoS at which a message goes to the subscription. [MQTT-3.8.4-8]
func (sub *Subscription) grantedFor(sequence uint64) mqttcodec.QoS {
	if sequence <= sub.FormerUntil.Sequence {
		return max(sub.QoS, sub.FormerQoS)
	}
	return sub.QoS
}

// DecodeRecord reads a record. It does not trust it.
func DecodeRecord(b []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	if r.Format < 1 || r.Format > recordFormat {
		return nil, fmt.Errorf("session record has format %d, this version reads up to %d", r.Format, recordFormat)
	}
	if r.ClientID == "" || r.Incarnation == "" {
		return nil, fmt.Errorf("session record without client identifier or incarnation")
	}
	for _, sub := range r.Subscriptions {
		if err := mqttcodec.ValidateTopicFilter(sub.Filter); err != nil || sub.QoS > 2 {
			return nil, fmt.Errorf("session record with a subscription of %q at QoS %d", sub.Filter, sub.QoS)
		}
	}
	if w := r.Will; w != nil {
		if err := mqttcodec.ValidateTopicName(w.Topic); err != nil || w.QoS > 2 {
			return nil, fmt.Errorf("session record with a will for %q at QoS %d", w.Topic, w.QoS)
		}
	}
	return &r, nil
}

// DecodeRecord reads the record, which must be that of the client identifier under which it was found.
func (s Stored) DecodeRecord() (*Record, error) {
	r, err := DecodeRecord(s.Record)
	if err == nil && r.ClientID != s.ClientID {
		return nil, fmt.Errorf("session record of %q found for %q", r.ClientID, s.ClientID)
	}
	return r, err
}

// ExpiresAt is when a session that was left at a time ends; the zero time means never.
func (r *Record) ExpiresAt(left time.Time) time.Time {
	if r.ExpirySeconds == neverSeconds {
		return time.Time{}
	}
	return left.Add(time.Duration(r.ExpirySeconds) * time.Second)
}

// WillAt is when the will of a session that was left at a time is due; the zero time means that there is none. [MQTT-3.1.2-8]
func (r *Record) WillAt(left time.Time) time.Time {
	if r.Will == nil {
		return time.Time{}
	}
	return left.Add(time.Duration(min(r.Will.DelaySeconds, r.ExpirySeconds)) * time.Second)
}

// QueuedFilters are the filters whose messages are queued while the client is away.
func (r *Record) QueuedFilters(qos0 bool) []string {
	var filters []string
	for _, sub := range r.Subscriptions {
		if (sub.QoS > 0 || sub.FormerQoS > 0 || qos0) && !isShared(sub.Filter) {
			filters = append(filters, sub.Filter)
		}
	}
	return filters
}

// Shares are the filters of the shared subscriptions. (4.8.2)
func (r *Record) Shares() []string {
	var shares []string
	for _, sub := range r.Subscriptions {
		if isShared(sub.Filter) {
			shares = append(shares, sub.Filter)
		}
	}
	return shares
}

func (s *Session) encodeRecord() []byte {
	r := Record{
		Format:        recordFormat,
		ClientID:      s.clientID,
		Incarnation:   s.incarnation,
		Owner:         s.cfg.Boot,
		Epoch:         s.epoch,
		Nonce:         s.nonce,
		Principal:     s.identity.Principal,
		Protocol:      s.version,
		ExpirySeconds: ExpirySeconds(s.expiry),
		Will:          s.will,
	}
	if s.connection == 0 {
		left := s.detachedAt.UTC()
		r.DetachedAt = &left
	}
	if n := s.subs.count(); n > 0 {
		r.Subscriptions = make([]Subscription, 0, n)
		s.subs.all(func(sub *Subscription) { r.Subscriptions = append(r.Subscriptions, *sub) })
	}
	return r.append(make([]byte, 0, 256+192*len(r.Subscriptions)))
}

// publishID is the identity of an inbound QoS 2 message. It does not hold the epoch: two owners of the session give the
// same message the same identity.
func publishID(incarnation string, packetID uint16, generation uint64) string {
	return fmt.Sprintf("%s/%d/%d", incarnation, packetID, generation)
}

// willID is the identity of the will of the connection that was made with a nonce.
func willID(incarnation, nonce string) string { return incarnation + "/will/" + nonce }

// IncarnationOf is the incarnation that made a message identity, "" when it is none of ours.
func IncarnationOf(id string) string {
	incarnation, _, ok := strings.Cut(id, "/")
	if !ok {
		return ""
	}
	return incarnation
}
