package sessions

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// append appends the record as encoding/json has it, in a fifth of the time: it is written twice for each connection.
func (r *Record) append(b []byte) []byte {
	b = append(b, `{"format":`...)
	b = strconv.AppendInt(b, int64(r.Format), 10)
	b = appendString(append(b, `,"client_id":`...), r.ClientID)
	b = appendString(append(b, `,"incarnation":`...), r.Incarnation)
	b = appendString(append(b, `,"owner":`...), r.Owner)
	b = appendNumber(b, `,"epoch":`, r.Epoch)
	b = appendString(append(b, `,"nonce":`...), r.Nonce)
	if r.Principal != "" {
		b = appendString(append(b, `,"principal":`...), r.Principal)
	}
	b = strconv.AppendUint(append(b, `,"protocol":`...), uint64(r.Protocol), 10)
	b = strconv.AppendUint(append(b, `,"expiry_seconds":`...), uint64(r.ExpirySeconds), 10)
	if r.DetachedAt != nil {
		b = appendTime(append(b, `,"detached_at":`...), *r.DetachedAt)
	}
	for i := range r.Subscriptions {
		if i == 0 {
			b = append(b, `,"subscriptions":[`...)
		} else {
			b = append(b, ',')
		}
		b = r.Subscriptions[i].append(b)
	}
	if len(r.Subscriptions) > 0 {
		b = append(b, ']')
	}
	if r.Will != nil {
		b = appendJSON(append(b, `,"will":`...), r.Will)
	}
	return append(b, '}')
}

func (sub *Subscription) append(b []byte) []byte {
	b = appendString(append(b, `{"filter":`...), sub.Filter)
	b = strconv.AppendUint(append(b, `,"qos":`...), uint64(sub.QoS), 10)
	if sub.NoLocal {
		b = append(b, `,"no_local":true`...)
	}
	if sub.RetainAsPublished {
		b = append(b, `,"retain_as_published":true`...)
	}
	b = appendNumber(b, `,"retain_handling":`, uint64(sub.RetainHandling))
	b = appendNumber(b, `,"identifier":`, uint64(sub.Identifier))
	b = sub.Since.append(append(b, `,"since":`...))
	b = appendNumber(b, `,"former_qos":`, uint64(sub.FormerQoS))
	if sub.FormerUntil != (Position{}) {
		b = sub.FormerUntil.append(append(b, `,"former_until":`...))
	}
	return append(b, '}')
}

func (p *Position) append(b []byte) []byte {
	b = append(b, '{')
	if p.Shard > 0 {
		b = append(strconv.AppendUint(append(b, `"shard":`...), uint64(p.Shard), 10), ',')
	}
	b = strconv.AppendUint(append(b, `"sequence":`...), p.Sequence, 10)
	if !p.Time.IsZero() {
		b = appendTime(append(b, `,"time":`...), p.Time)
	}
	return append(b, '}')
}

// appendNumber appends a field that is left out when it is 0.
func appendNumber(b []byte, name string, n uint64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendUint(append(b, name...), n, 10)
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendString appends a string of which nearly all need no escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendJSON(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendJSON(b []byte, v any) []byte {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("session record does not encode: %v", err)) // Invariant: it holds nothing that JSON cannot.
	}
	return append(b, encoded...)
}
