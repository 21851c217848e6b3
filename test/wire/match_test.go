package wire

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"dunlin/mqttcodec"
)

// match compares a packet with what words say of it: its kind, and the fields that they name.
func (p *player) match(words []string, got mqttcodec.Packet) error {
	if _, ok := newPackets[words[0]]; !ok {
		return fmt.Errorf("unknown packet %q", words[0])
	}
	if got.Type().String() != words[0] {
		return fmt.Errorf("want %s", words[0])
	}
	taken := map[string]string{}
	for _, word := range words[1:] {
		if err := p.matchField(word, got, taken); err != nil {
			return err
		}
	}
	for name, value := range taken {
		p.values[name] = value
	}
	return nil
}

// matchField compares one field: name=value, !name for one that must be absent, name=?x to take its value as ${x},
// name=5..10 for a number within bounds.
func (p *player) matchField(word string, got mqttcodec.Packet, taken map[string]string) error {
	if name, ok := strings.CutPrefix(word, "!"); ok {
		f, err := fieldOf(got, name)
		if err != nil {
			return err
		}
		if text, present := f.value(); present {
			return fmt.Errorf("want no %s, got %s", name, text)
		}
		return nil
	}
	name, value, ok := strings.Cut(word, "=")
	if !ok {
		value = "true" // retain
	}
	f, err := fieldOf(got, name)
	if err != nil {
		return err
	}
	text, present := f.value()
	if variable, ok := strings.CutPrefix(value, "?"); ok {
		if !present {
			return fmt.Errorf("want a %s, there is none", name)
		}
		taken[variable] = text
		return nil
	}
	if low, high, ok := strings.Cut(value, ".."); ok && isNumber(f) {
		return within(name, text, low, high)
	}
	want, err := p.fieldLike(f, value)
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	wantText, wantPresent := want.value()
	if text != wantText || present != wantPresent && isOptional(f) {
		return fmt.Errorf("want %s", word)
	}
	return nil
}

// isOptional: the field may be there and empty.
func isOptional(f field) bool {
	switch f.ref.(type) {
	case *mqttcodec.Optional[string], *mqttcodec.Optional[bool], *mqttcodec.Optional[byte],
		*mqttcodec.Optional[uint16], *mqttcodec.Optional[uint32]:
		return true
	}
	return false
}

func isNumber(f field) bool {
	text, _ := f.value()
	_, err := strconv.ParseUint(text, 0, 32)
	switch f.ref.(type) {
	case *string, *[]byte, *mqttcodec.Optional[string]:
		return false
	}
	return err == nil
}

func within(name, text, low, high string) error {
	var n, least, most uint32
	for _, number := range []error{number(&n, text), number(&least, low), number(&most, high)} {
		if number != nil {
			return number
		}
	}
	if n < least || n > most {
		return fmt.Errorf("want %s=%s..%s", name, low, high)
	}
	return nil
}

// fieldLike is a field of the same kind with the value of a word.
func (p *player) fieldLike(f field, word string) (field, error) {
	like := field{f.name, reflect.New(reflect.TypeOf(f.ref).Elem()).Interface()}
	return like, p.set(like, word)
}
