package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// holding is what a node's disk holds: which start of the node this is, and how
// far its log and its term go. It only grows, so a node that holds less than
// it once did was given an old disk.
type holding struct {
	Start uint64  // how often the node has started on this disk
	Nonce [8]byte // drawn at that start: two copies of one disk differ
	Index uint64
	Term  uint64
}

const holdingSize = 8 + 8 + 8 + 8

func (h holding) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, h.Start)
	b = append(b, h.Nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Index)
	return binary.BigEndian.AppendUint64(b, h.Term)
}

// decodeHolding reads the first holdingSize bytes of b.
func decodeHolding(b []byte) holding {
	return holding{
		Start: binary.BigEndian.Uint64(b),
		Nonce: [8]byte(b[8:]),
		Index: binary.BigEndian.Uint64(b[16:]),
		Term:  binary.BigEndian.Uint64(b[24:]),
	}
}

// atLeast returns why a node that holds h cannot be the one that is remembered.
func (h holding) atLeast(known holding) error {
	switch {
	case h.Start < known.Start:
		return fmt.Errorf("this is start %d of the node, and start %d is remembered", h.Start, known.Start)
	case h.Start == known.Start && h.Start != 0 && h.Nonce != known.Nonce:
		return fmt.Errorf("start %d of the node happened twice: its disk was copied", h.Start)
	case h.Index < known.Index:
		return fmt.Errorf("the log ends at %d, and the node has acknowledged %d", h.Index, known.Index)
	case h.Term < known.Term:
		return fmt.Errorf("the term is %d, and the node has been in %d", h.Term, known.Term)
	}
	return nil
}

// marks is what the group remembers of each node, in its replicated state.
type marks map[string]holding

var keyMarks = []byte{prefixMeta, 'h'} // and an id

func loadMarks(r pebble.Reader) (marks, error) {
	m := make(marks)
	var bad error
	err := scan(r, keyMarks, func(key, value []byte) bool {
		if len(value) != holdingSize {
			bad = fmt.Errorf("mark of %d bytes", len(value))
			return false
		}
		m[string(key[1:])] = decodeHolding(value)
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("reading the marks: %w", err)
	}
	return m, nil
}

// A mark is an entry in which the leader says what each node held durably and
// committed, and what its own state was:
//
//	1 kind, 8 index, 32 chain, then for each node 1 length of id, id, 32 holding
type mark struct {
	index uint64 // of the leader's state
	chain [32]byte
	nodes marks
}

func (m mark) encode() []byte {
	b := append(make([]byte, 0, 512), kindMark)
	b = binary.BigEndian.AppendUint64(b, m.index)
	b = append(b, m.chain[:]...)
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		b = append(append(b, byte(len(id))), id...)
		b = m.nodes[id].append(b)
	}
	return b
}

func decodeMark(b []byte) (mark, error) {
	const head = 1 + 8 + 32
	if len(b) < head || b[0] != kindMark {
		return mark{}, errMalformed
	}
	m := mark{index: binary.BigEndian.Uint64(b[1:]), chain: [32]byte(b[9:]), nodes: make(marks)}
	last := ""
	for b = b[head:]; len(b) > 0; {
		n := int(b[0])
		if n == 0 || len(b) < 1+n+holdingSize || len(m.nodes) == maxPeers {
			return mark{}, errMalformed
		}
		id := string(b[1 : 1+n])
		if id <= last {
			return mark{}, errMalformed
		}
		m.nodes[id], last = decodeHolding(b[1+n:]), id
		b = b[1+n+holdingSize:]
	}
	return m, nil
}

// errDiverged means that this node's state is not the leader's although the log
// is: a machine is not deterministic, or memory or disk lied.
var errDiverged = errors.New("state differs from the leader's")

// mark applies one: it compares states and remembers what nodes held. What is
// remembered only grows.
func (w *applying) mark(l *raft.Log) error {
	m, err := decodeMark(l.Data)
	if err != nil {
		return nil // every node alike
	}
	if chain, ok := w.state.chains.at(m.index); ok && chain != m.chain {
		return fmt.Errorf("%w at entry %d", errDiverged, m.index)
	}
	now := maps.Clone(w.marks)
	for id, said := range m.nodes {
		known := now[id]
		if said.Start < known.Start || w.state.isRetired(id) {
			continue
		}
		said.Index, said.Term = max(said.Index, known.Index), max(said.Term, known.Term)
		if said == known {
			continue
		}
		now[id] = said
		if err := w.writes.set(append(keyMarks[:2:2], id...), said.append(nil)); err != nil {
			return err
		}
	}
	w.marks = now
	if m.index == w.pos.Index { // what came in before the mark and after its making is not in it: another one follows
		w.marked = l.Index
	}
	return nil
}

// chains keeps the state's chain at the last entries.
type chains struct{ ring [4096]position }

func (c *chains) note(p position) { c.ring[p.Index%uint64(len(c.ring))] = p }

func (c *chains) at(index uint64) ([32]byte, bool) {
	p := c.ring[index%uint64(len(c.ring))]
	return p.Chain, p.Index == index && index != 0
}

var (
	keyStart = []byte("coffer-start")
	keyTerm  = []byte("CurrentTerm") // raft's own
)

// begin counts a start of the node, durably, before it speaks to anybody.
func (n *node) begin() error {
	b, err := n.logs.Get(keyStart)
	if err != nil {
		return fmt.Errorf("reading the number of starts: %w", err)
	}
	if len(b) >= 8 {
		n.start.Start = binary.BigEndian.Uint64(b)
	}
	n.start.Start++
	rand.Read(n.start.Nonce[:])
	b = append(binary.BigEndian.AppendUint64(nil, n.start.Start), n.start.Nonce[:]...)
	if err := n.logs.backend.Set(keyStart, b); err != nil {
		return fmt.Errorf("counting this start: %w", err)
	}
	return nil
}

// holds is what this node's disk holds now.
func (n *node) holds() (holding, error) {
	h := n.start
	var err error
	if h.Index, err = n.logs.LastIndex(); err != nil {
		return h, fmt.Errorf("reading the end of the log: %w", err)
	}
	h.Index = max(h.Index, n.state.position().Index)
	if h.Term, err = n.logs.GetUint64(keyTerm); err != nil {
		return h, fmt.Errorf("reading the term: %w", err)
	}
	return h, nil
}

// remember is the leader's part: it commits marks from time to time, and soon
// after a node has started, itself too.
func (s *Store) remember(ctx context.Context, n *node) {
	tick := time.NewTicker(s.c.hooks.markEvery)
	defer tick.Stop()
	own := time.NewTicker(min(time.Second, s.c.hooks.markEvery)) // nobody brings news of this node's own start
	defer own.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.greeter.news:
		case <-own.C:
			if n.remembered(s.c.NodeID) {
				continue
			}
		}
		if n.raft.State() != raft.Leader || n.state.idle() && n.remembered(s.c.NodeID) && !n.greeter.anyNew(n.state.known) {
			continue
		}
		m, err := s.markNow(n)
		if err == nil {
			err = s.wait(ctx, n.raft.Apply(m.encode(), 0))
		}
		if err != nil && ctx.Err() == nil {
			s.c.Log.Debug("no mark was made", zap.Error(err))
		}
	}
}

// remembered tells whether the group remembers this start of the node.
func (n *node) remembered(id string) bool {
	k := n.state.known(id)
	return k.Start == n.start.Start && k.Nonce == n.start.Nonce
}

// markNow gathers what is certain: what a node acknowledged to this leader in
// this term and is committed, it can never lose without losing its disk.
func (s *Store) markNow(n *node) (mark, error) {
	pos := n.state.position()
	m := mark{index: pos.Index, chain: pos.Chain, nodes: make(marks)}
	term, commit := n.raft.CurrentTerm(), n.raft.CommitIndex()
	own, err := n.holds()
	if err != nil {
		return m, err
	}
	own.Index, own.Term = min(own.Index, commit), term
	m.nodes[s.c.NodeID] = own
	for id, h := range n.greeter.all() {
		h.Index, h.Term = min(n.transport.acked.inTerm(id, term), commit), 0
		if h.Index > 0 {
			h.Term = term
		}
		m.nodes[id] = h
	}
	if n.raft.CurrentTerm() != term {
		return m, errors.New("the term has ended")
	}
	return m, nil
}
