package vault

import (
	"encoding/binary"
	"fmt"
	"math"
)

// core is the part of an account that a guess reads and writes, in a row of its
// own. Attempts are numbered from 1 over all epochs of the account for ever: the
// budget belongs to the account, and a new registration starts no new count.
type core struct {
	Seq      uint64 // number of the last attempt
	Restored uint64 // attempts up to this number no longer count
	Refilled int64  // Unix ms of the last refill without proof, or of the first registration
	Last     int64  // Unix ms of the last attempt
	Until    int64  // Unix ms when Former ends
	Gone     int64  // Unix ms when destroyed, 0 if not
	Due      int64  // Unix ms of this account's entry in the list of what is due, 0 if none
	Budget   uint8

	counted uint8 // attempts that count
	other   int64 // when anything but the budget is due, as Unix ms; [math.MaxInt64] if never
	current use
	former  use
	rules   Policy // of the current epoch
}

// use is how often an epoch was guessed at.
type use struct {
	live  bool
	epoch Epoch
	used  uint32 // attempts, proved or not
}

// coreLayout is the first byte of the row. A program that finds a later one stops.
const coreLayout = 1

// encode returns the row: PROTOCOL.md, section 8.
func (c *core) encode() []byte {
	b := make([]byte, 0, 160+4*len(c.rules.Delays))
	b = append(b, coreLayout, c.Budget, c.counted)
	for _, n := range []uint64{
		c.Seq, c.Restored, uint64(c.Refilled), uint64(c.Last), uint64(c.Until), uint64(c.Gone), uint64(c.Due), uint64(c.other),
	} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, u := range []use{c.current, c.former} {
		if !u.live {
			b = append(b, 0)
			continue
		}
		b = append(append(b, 1), u.epoch[:]...)
		b = binary.BigEndian.AppendUint32(b, u.used)
	}
	p := &c.rules
	b = append(b, p.Budget)
	for _, n := range []uint32{p.Deadline, p.Lifetime, p.Grace, p.Refill, p.Disable} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, n := range p.Delays {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// decodeCore reads the row. Only damage of the store makes it fail.
func decodeCore(b []byte) (c core, err error) {
	r := &row{b: b}
	if layout := r.u8(); layout != coreLayout {
		return c, fmt.Errorf("reading the state: %w: account in layout %d", ErrMalformed, layout)
	}
	c.Budget, c.counted = r.u8(), r.u8()
	c.Seq, c.Restored = r.u64(), r.u64()
	for _, n := range []*int64{&c.Refilled, &c.Last, &c.Until, &c.Gone, &c.Due, &c.other} {
		*n = int64(r.u64())
	}
	for _, u := range []*use{&c.current, &c.former} {
		if u.live = r.u8() == 1; u.live {
			copy(u.epoch[:], r.next(len(u.epoch)))
			u.used = r.u32()
		}
	}
	p := &c.rules
	p.Budget = r.u8()
	for _, n := range []*uint32{&p.Deadline, &p.Lifetime, &p.Grace, &p.Refill, &p.Disable} {
		*n = r.u32()
	}
	if n := len(r.b) / 4; n > 0 {
		p.Delays = make([]uint32, n)
		for i := range p.Delays {
			p.Delays[i] = r.u32()
		}
	}
	return c, r.end()
}

// row reads the fields of a row. Past the end they are zero, and end fails.
type row struct {
	b     []byte
	short bool
}

func (r *row) next(n int) []byte {
	if len(r.b) < n {
		r.b, r.short = nil, true
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *row) u8() uint8   { return r.next(1)[0] }
func (r *row) u16() uint16 { return binary.BigEndian.Uint16(r.next(2)) }
func (r *row) u32() uint32 { return binary.BigEndian.Uint32(r.next(4)) }
func (r *row) u64() uint64 { return binary.BigEndian.Uint64(r.next(8)) }

func (r *row) end() error {
	if r.short || len(r.b) != 0 {
		return fmt.Errorf("reading the state: %w: a row of another length", ErrMalformed)
	}
	return nil
}

func (c *core) left() int { return max(0, int(c.Budget)-int(c.counted)) }

// use returns that of a committed epoch, nil if it is not (or no longer) one.
func (c *core) use(e Epoch) *use {
	for _, u := range []*use{&c.current, &c.former} {
		if u.live && u.epoch == e {
			return u
		}
	}
	return nil
}

// due returns when something happens to the account by time alone, as Unix ms,
// and 0 if never.
func (c *core) due() int64 {
	at := c.other
	if c.Gone == 0 && c.current.live && c.left() == 0 {
		at = min(at, c.Last+seconds(c.rules.Deadline).Milliseconds())
	}
	if at == math.MaxInt64 {
		return 0
	}
	return at
}

// attempt counts a guess. The same id with the same element is the same guess,
// whenever it comes; with another element it is refused, for one count must not
// buy two evaluations. It reads and writes the attempt's own row and leaves
// the account's to the caller, who writes it if one is counted.
//
// That the element is a point is no matter of the order: the leader asks before
// it proposes, and every node before its ledger takes the attempt.
func (c *core) attempt(kv KV, b *AttemptBody, cmd *Command) (o outcome, counted *attempt, err error) {
	if c.Gone != 0 {
		return outcome{Code: CodeDestroyed}, nil, nil
	}
	key := attemptKey(b.UID, b.ID)
	if v, ok := kv.Get(key); ok {
		t, err := decodeAttempt(b.ID, v)
		switch {
		case err != nil:
			return o, nil, err
		case t.Epoch != b.Epoch || t.Element != b.Element:
			return outcome{Code: CodeConflict}, nil, nil
		}
		return outcome{Code: CodeOK, Seq: t.Seq}, nil, nil
	}
	u := c.use(b.Epoch)
	switch {
	case !c.current.live:
		return outcome{Code: CodeNone}, nil, nil
	case u == nil:
		return outcome{Code: CodeStale}, nil, nil
	case c.left() == 0: // until the deadline, for a proof of the last one
		return outcome{Code: CodeDestroyed}, nil, nil
	case u.used >= c.rules.Lifetime:
		return outcome{Code: CodeWorn}, nil, nil
	}
	if wait := c.Last + c.rules.delay(int(c.counted)).Milliseconds() - cmd.Time; wait > 0 && c.counted > 0 {
		return outcome{Code: CodeWait, Retry: retrySeconds(wait)}, nil, nil
	}
	c.Seq++
	c.counted++
	u.used++
	c.Last = cmd.Time
	t := &attempt{Seq: c.Seq, ID: b.ID, Epoch: b.Epoch, Element: b.Element, At: cmd.Time, Token: cmd.Token}
	kv.Set(key, t.encode())
	return outcome{Code: CodeOK, Seq: c.Seq}, t, nil
}

// encode returns an attempt's row; its id is in the key.
func (t *attempt) encode() []byte {
	b := make([]byte, 0, 1+8+8+16+33+len(t.Token))
	b = append(b, coreLayout)
	b = binary.BigEndian.AppendUint64(b, t.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(t.At))
	b = append(b, t.Epoch[:]...)
	b = append(b, t.Element[:]...)
	return append(b, t.Token...)
}

func decodeAttempt(id AttemptID, b []byte) (attempt, error) {
	r := &row{b: b}
	layout := r.u8()
	t := attempt{ID: id, Seq: r.u64(), At: int64(r.u64())}
	copy(t.Epoch[:], r.next(len(t.Epoch)))
	copy(t.Element[:], r.next(len(t.Element)))
	t.Token = append([]byte{}, r.next(len(r.b))...)
	if err := r.end(); err != nil || layout != coreLayout {
		return t, fmt.Errorf("reading the state: %w: attempt in layout %d", ErrMalformed, layout)
	}
	return t, nil
}
