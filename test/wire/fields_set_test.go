package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dunlin/mqttcodec"
)

// set gives a field the value of a word.
func (p *player) set(f field, word string) error {
	switch f.ref.(type) {
	case *[]mqttcodec.ReasonCode, *[]uint32, *[]mqttcodec.UserProperty, *[]string, *[]mqttcodec.SubscriptionRequest:
		return p.setList(f, word)
	}
	text, err := p.text(word)
	if err != nil {
		return err
	}
	switch r := f.ref.(type) {
	case *string:
		*r = text
	case *[]byte:
		*r = []byte(text)
	case *mqttcodec.Optional[string]:
		*r = mqttcodec.Some(text)
	case *mqttcodec.Version:
		if *r = versionNames[text]; *r == 0 {
			return fmt.Errorf("unknown version %q", text)
		}
	case *bool:
		*r, err = strconv.ParseBool(text)
	case *mqttcodec.Optional[bool]:
		r.Present = true
		r.Value, err = strconv.ParseBool(text)
	case *mqttcodec.QoS:
		return number(r, text)
	case *mqttcodec.ReasonCode:
		return number(r, text)
	case *uint16:
		return number(r, text)
	case *uint32:
		return number(r, text)
	case *mqttcodec.Optional[byte]:
		r.Present = true
		return number(&r.Value, text)
	case *mqttcodec.Optional[uint16]:
		r.Present = true
		return number(&r.Value, text)
	case *mqttcodec.Optional[uint32]:
		r.Present = true
		return number(&r.Value, text)
	default:
		return fmt.Errorf("%s is a %T, which no script can write", f.name, r)
	}
	return err
}

func number[N ~uint8 | ~uint16 | ~uint32](n *N, text string) error {
	v, err := strconv.ParseUint(text, 0, 32)
	if *n = N(v); err == nil && uint64(*n) != v {
		err = fmt.Errorf("%s is too large", text)
	}
	return err
}

func (p *player) setList(f field, word string) error {
	switch r := f.ref.(type) {
	case *[]mqttcodec.ReasonCode:
		return fill(p, r, word, func(n *mqttcodec.ReasonCode, first, _ string) error { return number(n, first) })
	case *[]uint32:
		return fill(p, r, word, func(n *uint32, first, _ string) error { return number(n, first) })
	case *[]string:
		return fill(p, r, word, func(text *string, first, _ string) error {
			*text = first
			return nil
		})
	case *[]mqttcodec.UserProperty:
		return fill(p, r, word, func(u *mqttcodec.UserProperty, first, after string) (err error) {
			u.Key = first
			u.Value, err = p.text(after)
			return err
		})
	case *[]mqttcodec.SubscriptionRequest:
		return fill(p, r, word, func(q *mqttcodec.SubscriptionRequest, first, after string) (err error) {
			q.Filter = first
			q.Options, err = subscriptionOptions(after)
			return err
		})
	}
	return fmt.Errorf("%s is a %T, which is no list", f.name, f.ref)
}

// fill makes a list of a word: each item is read once, however often it is meant, so that long ones take no time of those that the
// script looks at.
func fill[T any](p *player, list *[]T, word string, read func(item *T, first, after string) error) error {
	items, times, err := p.list(word)
	if err != nil {
		return err
	}
	for _, item := range items {
		before, after := cutItem(item)
		first, err := p.text(before)
		if err != nil {
			return err
		}
		var value T
		if err := read(&value, first, after); err != nil {
			return err
		}
		*list = append(*list, value)
	}
	*list = slices.Repeat(*list, times)
	return nil
}

// subscriptionOptions reads 1:nl:rap:rh2: QoS 1, No Local, Retain As Published, Retain Handling 2.
func subscriptionOptions(text string) (o mqttcodec.SubscriptionOptions, err error) {
	for option := range strings.SplitSeq(text, ":") {
		switch option {
		case "":
		case "0", "1", "2":
			o.QoS = mqttcodec.QoS(option[0] - '0')
		case "nl":
			o.NoLocal = true
		case "rap":
			o.RetainAsPublished = true
		case "rh0", "rh1", "rh2":
			o.RetainHandling = mqttcodec.RetainHandling(option[2] - '0')
		default:
			return o, fmt.Errorf("unknown subscription option %q", option)
		}
	}
	return o, nil
}
