package vault

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// What each guess has encoded and decoded on its way, without reflection: the bytes are
// those of [encode], and no others are read.

func appendBytes(b, v []byte) []byte { return append(appendNumber(b, 2, uint64(len(v))), v...) }

// encode returns what [encode] does.
func (r *Request) encode() []byte {
	b := make([]byte, 1, 80+len(r.Token)+len(r.Body))
	b[0] = 0xa6
	b = appendNumber(append(b, 1), 0, uint64(r.Version))
	b = appendNumber(append(b, 2), 0, uint64(r.Kind))
	b = appendBytes(append(b, 3), r.Nonce[:])
	b = appendBytes(append(b, 4), r.Manifest[:])
	b = appendBytes(append(b, 5), r.Token)
	return appendBytes(append(b, 6), r.Body)
}

func (r *Request) decode(data []byte) error {
	q := &quick{b: data}
	q.lit(0xa6, 1)
	r.Version = uint8(q.below(math.MaxUint8))
	q.lit(2)
	r.Kind = Kind(q.below(math.MaxUint8))
	q.lit(3)
	q.fixed(r.Nonce[:])
	q.lit(4)
	q.fixed(r.Manifest[:])
	q.lit(5)
	r.Token = q.string()
	q.lit(6)
	r.Body = q.string()
	return q.end("request")
}

// encode returns what [encode] does.
func (a *Answer) encode() []byte {
	b := make([]byte, 1, 512+len(a.Record)+len(a.Former))
	b[0] = 0xb6
	b = appendNumber(append(b, 1), 0, uint64(a.Version))
	b = append(appendNumber(append(b, 2), 3, uint64(len(a.Node))), a.Node...)
	b = appendBytes(append(b, 3), a.Manifest[:])
	b = appendBytes(append(b, 4), a.Request[:])
	b = appendNumber(append(b, 5), 0, uint64(a.Code))
	b = append(appendNumber(append(b, 6), 3, uint64(len(a.Leader))), a.Leader...)
	b = appendNumber(append(b, 7), 0, uint64(a.Retry))
	b = appendNumber(append(b, 8), 0, uint64(a.Left))
	b = appendNumber(append(b, 9), 0, uint64(a.Failed))
	b = appendNumber(append(b, 10), 0, a.Last)
	b = appendNumber(append(b, 11), 0, a.Disable)
	b = appendBytes(append(b, 12), a.UID[:])
	b = appendBytes(append(b, 13), a.Epoch[:])
	b = appendBytes(append(b, 14), a.ID[:])
	b = appendNumber(append(b, 15), 0, a.Seq)
	b = appendBytes(append(b, 16), a.Element[:])
	b = appendBytes(append(b, 17), a.Result[:])
	b = appendBytes(append(b, 18), a.Public[:])
	b = appendBytes(append(b, 19), a.Record)
	b = appendBytes(append(b, 20), a.Former)
	b = appendBytes(append(b, 21), a.Head[:])
	return appendNumber(append(b, 22), 0, uint64(a.Used))
}

func (a *Answer) decode(data []byte) error {
	q := &quick{b: data}
	q.lit(0xb6, 1)
	a.Version = uint8(q.below(math.MaxUint8))
	q.lit(2)
	a.Node = q.text()
	q.lit(3)
	q.fixed(a.Manifest[:])
	q.lit(4)
	q.fixed(a.Request[:])
	q.lit(5)
	a.Code = Code(q.below(math.MaxUint8))
	q.lit(6)
	a.Leader = q.text()
	q.lit(7)
	a.Retry = uint32(q.below(math.MaxUint32))
	q.lit(8)
	a.Left = uint8(q.below(math.MaxUint8))
	q.lit(9)
	a.Failed = uint8(q.below(math.MaxUint8))
	q.lit(10)
	a.Last = q.number(0)
	q.lit(11)
	a.Disable = q.number(0)
	q.lit(12)
	q.fixed(a.UID[:])
	q.lit(13)
	q.fixed(a.Epoch[:])
	q.lit(14)
	q.fixed(a.ID[:])
	q.lit(15)
	a.Seq = q.number(0)
	q.lit(16)
	q.fixed(a.Element[:])
	q.lit(17)
	q.fixed(a.Result[:])
	q.lit(18)
	q.fixed(a.Public[:])
	q.lit(19)
	a.Record = q.string()
	q.lit(20)
	a.Former = q.string()
	q.lit(21)
	q.fixed(a.Head[:])
	q.lit(22)
	a.Used = uint32(q.below(math.MaxUint32))
	return q.end("answer")
}

// encode returns what [encode] does, and zeros up to size.
func (at *attested) encode(size int) ([]byte, error) {
	b := make([]byte, 1, size)
	b[0] = 0xa4
	b = appendBytes(append(b, 1), at.Answer)
	b = appendBytes(append(b, 2), at.Sig[:])
	b = appendNumber(append(b, 3), 0, uint64(at.Sides))
	b = appendBytes(append(b, 4), at.Path)
	if len(b) > size {
		return nil, errTooLong
	}
	return b[:size], nil // fresh memory is zero
}

// decode reads an answer of any of the sizes, with its zeros.
func (at *attested) decode(data []byte) error {
	q := &quick{b: data}
	q.lit(0xa4, 1)
	at.Answer = q.string()
	q.lit(2)
	q.fixed(at.Sig[:])
	q.lit(3)
	at.Sides = uint8(q.below(math.MaxUint8))
	q.lit(4)
	at.Path = q.string()
	for _, c := range q.b {
		q.bad = q.bad || c != 0
	}
	q.b = nil
	return q.end("attested answer")
}

func (o *outcome) decode(data []byte) error {
	q := &quick{b: data}
	q.lit(0xa6, 1)
	o.Code = Code(q.below(math.MaxUint8))
	q.lit(2)
	o.Left = uint8(q.below(math.MaxUint8))
	q.lit(3)
	o.Failed = uint8(q.below(math.MaxUint8))
	q.lit(4)
	if len(q.b) > 0 && q.b[0]>>5 == 1 {
		o.Last = ^int64(q.limit(1, math.MaxInt64))
	} else {
		o.Last = int64(q.below(math.MaxInt64))
	}
	q.lit(5)
	o.Retry = uint32(q.below(math.MaxUint32))
	q.lit(6)
	o.Seq = q.number(0)
	return q.end("outcome")
}

// below reads an integer of at most most.
func (q *quick) below(most uint64) uint64 { return q.limit(0, most) }

func (q *quick) limit(major byte, most uint64) uint64 {
	n := q.number(major)
	q.bad = q.bad || n > most
	return n
}

// text reads a string.
func (q *quick) text() string {
	s := string(q.take(q.number(3)))
	q.bad = q.bad || !utf8.ValidString(s)
	return s
}

// end wants nothing more, and says what was wrong.
func (q *quick) end(what string) error {
	if q.bad || len(q.b) != 0 {
		return fmt.Errorf("%w: %s is not in its deterministic encoding", ErrMalformed, what)
	}
	return nil
}

// encode returns the version and what [encode] does.
func (c *Command) encode() []byte {
	b := append(make([]byte, 0, 40+len(c.Token)+len(c.Body)), writtenCommand, 0xa4)
	b = appendNumber(append(b, 1), 0, uint64(c.Kind))
	if c.Time < 0 {
		b = appendNumber(append(b, 2), 1, ^uint64(c.Time))
	} else {
		b = appendNumber(append(b, 2), 0, uint64(c.Time))
	}
	b = appendBytes(append(b, 3), c.Token)
	return appendBytes(append(b, 4), c.Body)
}
