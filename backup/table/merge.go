package table

import (
	"bufio"
	"io"

	"coffer/backup/chunk"
)

// cursor goes through entries in the order of their ids.
type cursor struct {
	cur  entry
	slot int
	more func(*cursor) (ok bool, err error)
}

// over is a cursor over a run whose first entry has the number base.
func (r *run) over(base int) *cursor {
	in := bufio.NewReaderSize(io.NewSectionReader(r.f, blockSize, int64(r.blocks())*blockSize), 64<<10)
	var b [blockSize]byte
	at := -1
	return &cursor{more: func(c *cursor) (bool, error) {
		if at++; at == r.n {
			return false, nil
		}
		if at%perBlock == 0 {
			if _, err := io.ReadFull(in, b[:]); err != nil {
				return false, err
			}
			if err := r.checkBlock(at/perBlock, b[:]); err != nil {
				return false, err
			}
		}
		c.cur.decode(b[at%perBlock*entrySize:])
		c.slot = base + at
		return true, nil
	}}
}

// over is a cursor over the entries, the first of which has the number base.
func (r *recent) over(base int) *cursor {
	order := r.sorted()
	at := -1
	return &cursor{more: func(c *cursor) (bool, error) {
		if at++; at == len(order) {
			return false, nil
		}
		c.cur = *r.entry(int(order[at]))
		c.slot = base + int(order[at])
		return true, nil
	}}
}

// merge goes through the entries of several cursors, in order. Of those with the
// same id it gives the one of the last cursor.
type merge struct {
	cursors []*cursor // that have an entry, the newest last
	cur     entry
	slot    int
	last    chunk.ID
	begun   bool
	err     error
}

func newMerge(cursors ...*cursor) *merge {
	m := &merge{}
	for _, c := range cursors {
		ok, err := c.more(c)
		if err != nil {
			m.err = err
		}
		if ok {
			m.cursors = append(m.cursors, c)
		}
	}
	return m
}

// next goes to the next entry, and reports whether there is one.
func (m *merge) next() bool {
	for m.err == nil && len(m.cursors) > 0 {
		best := len(m.cursors) - 1
		for i := best - 1; i >= 0; i-- {
			if compare(&m.cursors[i].cur.id, &m.cursors[best].cur.id) < 0 {
				best = i
			}
		}
		c := m.cursors[best]
		fresh := !m.begun || m.last != c.cur.id
		if fresh {
			m.cur, m.slot, m.last, m.begun = c.cur, c.slot, c.cur.id, true
		}
		ok, err := c.more(c)
		if err != nil {
			m.err = err
			return false
		}
		if !ok {
			m.cursors = append(m.cursors[:best], m.cursors[best+1:]...)
		}
		if fresh {
			return true
		}
	}
	return false
}

// all goes through the whole table.
func (t *Table) all() *merge {
	var cursors []*cursor
	base := 0
	for _, r := range t.runs {
		cursors = append(cursors, r.over(base))
		base += r.n
	}
	return newMerge(append(cursors, t.recent.over(base))...)
}
