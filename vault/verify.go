package vault

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Verified is what comparing the nodes says of one of them.
type Verified struct {
	Node        string   `json:"node"`
	Applied     uint64   `json:"applied"`
	Ledger      uint64   `json:"ledger_entries"`
	Remembered  uint64   `json:"ledger_remembered"` // the most of its entries that another node has seen
	Regressions uint64   `json:"regressions"`
	Same        []string `json:"same"`     // nodes that had the same state at some entry
	Problems    []string `json:"problems"` // none: nothing speaks against it
}

const (
	verifyTime  = 15 * time.Second
	verifyPause = 200 * time.Millisecond
)

// Verify compares the nodes: replicated states that have applied as much must be the
// same, and no ledger may be shorter than another node remembers it. It asks until each
// node that answers was compared with another, for 15 s at most.
func (s *Server) Verify(ctx context.Context) []Verified {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	by := s.inForce()
	v := &verifying{s: s, by: by, chains: make(map[uint64]map[string][32]byte), all: make([]Verified, len(by.manifest.Nodes))}
	for i, n := range by.manifest.Nodes {
		v.all[i] = Verified{Node: n.ID, Same: []string{}, Problems: []string{}}
	}
	v.heads(ctx)
	for !v.states(ctx) && sleep(ctx, verifyPause) == nil {
	}
	return v.result()
}

type verifying struct {
	s      *Server
	by     *inForce
	mu     sync.Mutex
	all    []Verified
	errs   map[string]error               // of the last round, by node
	chains map[uint64]map[string][32]byte // by entry and node
}

// each calls fn for all nodes at once.
func (v *verifying) each(fn func(i int, n Node)) {
	var wg sync.WaitGroup
	for i, n := range v.by.manifest.Nodes {
		wg.Go(func() { fn(i, n) })
	}
	wg.Wait()
}

// ask asks a node, this one without the network.
func (v *verifying) ask(ctx context.Context, n Node, kind Kind, of string) (*Answer, error) {
	r := &Request{Version: version, Kind: kind, Manifest: v.by.hash, Body: encode(&HeadBody{of})}
	if n.ID == v.s.c.NodeID {
		a := v.s.answer(ctx, r, v.by)
		h := v.s.shown(r)
		a.Head = h.bytes()
		return a, nil
	}
	p := v.s.witness.peer(n.ID)
	if p == nil {
		return nil, fmt.Errorf("vault: node %s is not one of the fleet's any more", n.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, witnessCall)
	defer cancel()
	a, _, err := p.ask(ctx, r)
	if err == nil && a.Code != CodeOK {
		err = fmt.Errorf("vault: it answers %q", a.Code)
	}
	return a, err
}

// heads asks each node for its ledger's head and for what it remembers of the others. The
// memory is asked for first: ledgers only grow.
func (v *verifying) heads(ctx context.Context) {
	v.each(func(_ int, n Node) {
		for j, of := range v.by.manifest.Nodes {
			if of.ID == n.ID {
				continue
			}
			a, err := v.ask(ctx, n, KindHead, of.ID)
			var sg signed
			if err != nil || len(a.Record) == 0 || decode(a.Record, &sg) != nil {
				continue // whoever does not answer is said to below
			}
			if h, ok := readHead(of, &sg); ok {
				v.mu.Lock()
				v.all[j].Remembered = max(v.all[j].Remembered, h.count)
				v.mu.Unlock()
			}
		}
	})
}

// states asks for the states once, and says whether no more is to be learnt.
func (v *verifying) states(ctx context.Context) (done bool) {
	errs := make(map[string]error)
	v.each(func(i int, n Node) {
		a, err := v.ask(ctx, n, KindState, "")
		var st NodeState
		if err == nil {
			err = decode(a.Record, &st)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if err != nil {
			errs[n.ID] = err
			return
		}
		w := &v.all[i]
		w.Applied, w.Regressions, w.Ledger = st.Applied, st.Regressions, headOf(a).count
		if v.chains[st.Applied] == nil {
			v.chains[st.Applied] = make(map[string][32]byte)
		}
		v.chains[st.Applied][n.ID] = st.Chain
	})
	v.errs = errs
	compared := 0
	for _, n := range v.by.manifest.Nodes {
		for _, at := range v.chains {
			if _, in := at[n.ID]; in && len(at) > 1 && errs[n.ID] == nil {
				compared++
				break
			}
		}
	}
	return compared+len(errs) == len(v.all) || len(v.all) == 1
}

// result says what was found.
func (v *verifying) result() []Verified {
	for i := range v.all {
		w := &v.all[i]
		bad := func(format string, args ...any) { w.Problems = append(w.Problems, fmt.Sprintf(format, args...)) }
		if err := v.errs[w.Node]; err != nil {
			bad("does not answer: %v", err)
			continue
		}
		same := make(map[string]bool)
		for at, chains := range v.chains {
			own, in := chains[w.Node]
			for other, c := range chains {
				switch {
				case !in || other == w.Node:
				case c != own:
					bad("its state at entry %d is not that of node %s", at, other)
				default:
					same[other] = true
				}
			}
		}
		for _, n := range v.by.manifest.Nodes {
			if same[n.ID] {
				w.Same = append(w.Same, n.ID)
			}
		}
		if len(v.all) > 1 && len(same) == 0 && len(w.Problems) == 0 {
			bad("was at no entry at which another node was: it lags, or the fleet is busy")
		}
		if w.Ledger < w.Remembered {
			bad("its ledger has %d entries, and another node has seen %d", w.Ledger, w.Remembered)
		}
		if w.Regressions > 0 {
			bad("its state was behind its ledger %d times since it started", w.Regressions)
		}
	}
	return v.all
}
