package vault

import "encoding/binary"

// quick reads the one encoding of a command that is an attempt, without reflection:
// what every node does for each guess. What it does not read, [decode] judges.
type quick struct {
	b   []byte
	bad bool
}

// parseAttempt reads a whole command. ok is false for any other, and for what is not
// exactly as [encode] writes it.
func parseAttempt(data []byte) (c *Command, b *AttemptBody, ok bool) {
	if len(data) == 0 || data[0] != version || len(data) > maxMessage {
		return nil, nil, false
	}
	q := &quick{b: data[1:]}
	c = &Command{Kind: KindAttempt}
	q.lit(0xa4, 0x01, byte(KindAttempt), 0x02)
	c.Time = int64(q.number(0))
	q.lit(0x03)
	c.Token = q.string()
	q.lit(0x04)
	c.Body = q.string()
	if q.bad || len(q.b) != 0 || len(c.Token) > maxToken || c.Time < 0 || c.Time > maxTime {
		return nil, nil, false
	}
	b, ok = parseAttemptBody(c.Body)
	return c, b, ok
}

func parseAttemptBody(data []byte) (*AttemptBody, bool) {
	q, b := &quick{b: data}, new(AttemptBody)
	q.lit(0xa4, 0x01)
	q.fixed(b.UID[:])
	q.lit(0x02)
	q.fixed(b.Epoch[:])
	q.lit(0x03)
	q.fixed(b.ID[:])
	q.lit(0x04)
	q.fixed(b.Element[:])
	return b, !q.bad && len(q.b) == 0
}

func (q *quick) take(n uint64) []byte {
	if n > uint64(len(q.b)) {
		q.b, q.bad = nil, true
		return nil
	}
	v := q.b[:n]
	q.b = q.b[n:]
	return v
}

// lit wants these bytes.
func (q *quick) lit(want ...byte) {
	if string(q.take(uint64(len(want)))) != string(want) {
		q.bad = true
	}
}

// number reads an integer of a major type in its shortest form.
func (q *quick) number(major byte) uint64 {
	h := q.take(1)
	if len(h) == 0 || h[0]>>5 != major {
		q.bad = true
		return 0
	}
	n, size := uint64(h[0]&31), 0
	if n < 24 {
		return n
	}
	if n > 27 {
		q.bad = true
		return 0
	}
	size = 1 << (n - 24)
	var b [8]byte
	copy(b[8-size:], q.take(uint64(size)))
	v := binary.BigEndian.Uint64(b[:])
	if v < 24 || size > 1 && v < 1<<(4*size) { // a shorter form does
		q.bad = true
	}
	return v
}

// string reads a byte string of any length; it is the caller's.
func (q *quick) string() []byte { return append([]byte{}, q.take(q.number(2))...) }

// fixed reads a byte string of that length.
func (q *quick) fixed(to []byte) {
	if n := q.number(2); n != uint64(len(to)) {
		q.bad = true
		return
	}
	copy(to, q.take(uint64(len(to))))
}

// encode returns what [encode] does, without reflection.
func (o *outcome) encode() []byte {
	b := make([]byte, 1, 40)
	b[0] = 0xa6
	last, major := uint64(o.Last), byte(0)
	if o.Last < 0 {
		last, major = ^uint64(o.Last), 1
	}
	b = appendNumber(append(b, 1), 0, uint64(o.Code))
	b = appendNumber(append(b, 2), 0, uint64(o.Left))
	b = appendNumber(append(b, 3), 0, uint64(o.Failed))
	b = appendNumber(append(b, 4), major, last)
	b = appendNumber(append(b, 5), 0, uint64(o.Retry))
	return appendNumber(append(b, 6), 0, o.Seq)
}

func appendNumber(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}
