package mqttcodec

// properties writes a property section: its length, and what fields writes. Before 5.0 there is none. fields runs
// once more than it writes, to count.
func (w *writer) properties(fields func()) {
	if w.version != V5 {
		return
	}
	length := w.count(fields)
	w.varint(length) // [MQTT-2.2.2-1]: written also when it is 0
	if w.counting {
		w.n += length
		return
	}
	fields()
}

// count is the number of bytes that fields writes.
func (w *writer) count(fields func()) int {
	counting, n := w.counting, w.n
	w.counting, w.n = true, 0
	fields()
	length := w.n
	w.counting, w.n = counting, n
	return length
}

// number writes a numeric property in the form its rule gives it.
func (w *writer) number(id property, n uint32) {
	w.byte(byte(id))
	switch propertyRules[id].kind {
	case kindByte:
		w.byte(byte(n))
	case kindUint16:
		w.uint16(uint16(n))
	case kindVarint:
		w.varint(int(n))
	default:
		w.uint32(n)
	}
}

// nonZero writes a numeric property whose 0 stands for absent.
func (w *writer) nonZero(id property, n uint32) {
	if n != 0 {
		w.number(id, n)
	}
}

// optional writes a numeric property that is present.
func optional[T byte | uint16 | uint32](w *writer, id property, o Optional[T]) {
	if o.Present {
		w.number(id, uint32(o.Value))
	}
}

func (w *writer) flag(id property, set bool) {
	if set {
		w.number(id, 1)
		return
	}
	w.number(id, 0)
}

func (w *writer) optionalFlag(id property, o Optional[bool]) {
	if o.Present {
		w.flag(id, o.Value)
	}
}

// text writes a string property whose empty value stands for absent.
func (w *writer) text(id property, s string) {
	if s != "" {
		w.byte(byte(id))
		w.string(s)
	}
}

func (w *writer) optionalText(id property, o Optional[string]) {
	if o.Present {
		w.byte(byte(id))
		w.string(o.Value)
	}
}

// data writes a property of binary data unless it is nil.
func (w *writer) data(id property, b []byte) {
	if b != nil {
		w.byte(byte(id))
		w.binary(b)
	}
}

func (w *writer) userProperties(list []UserProperty) {
	for i := range list {
		w.byte(byte(propUser))
		w.string(list[i].Key)
		w.string(list[i].Value)
	}
}
