package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/fxamacker/cbor/v2"

	"coffer/vault"
)

// ledger is what one node wrote before it evaluated (PROTOCOL.md, 7).
type ledger struct {
	node    string
	entries []entry
}

// The kinds of entries that matter here.
const (
	entryCommit = 3
	entrySpend  = 4
	entryProve  = 5
)

// howToken means that a registration was not proved: the budget is not made whole.
const howToken = 3

// entry is the part of one that the checks need.
type entry struct {
	Kind    uint8           `cbor:"1,keyasint"`
	UID     vault.UID       `cbor:"2,keyasint"`
	Seq     uint64          `cbor:"6,keyasint"`
	ID      vault.AttemptID `cbor:"7,keyasint"`
	Element [33]byte        `cbor:"8,keyasint"`
	How     uint8           `cbor:"14,keyasint"`
}

func (l ledger) spends() (out []entry) {
	for _, e := range l.entries {
		if e.Kind == entrySpend {
			out = append(out, e)
		}
	}
	return out
}

// readLedger reads the file: magic line, then size, body and link of each entry.
// A cut last one was never acted upon.
func readLedger(node, file string) (ledger, error) {
	l := ledger{node: node}
	b, err := os.ReadFile(file)
	if err != nil {
		return l, err
	}
	const magic = "coffer vault ledger 1\n"
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return l, errors.New("the ledger of " + node + " does not begin like one")
	}
	for b = b[len(magic):]; len(b) >= 4; {
		n := int(binary.BigEndian.Uint32(b))
		if len(b) < 4+n+32 {
			break
		}
		var e entry
		if err := cbor.Unmarshal(b[4:4+n], &e); err != nil {
			return l, fmt.Errorf("ledger of %s, entry %d: %w", node, len(l.entries)+1, err)
		}
		l.entries = append(l.entries, e)
		b = b[4+n+32:]
	}
	return l, nil
}

// withinBudget counts, for each node and account, the distinct elements between
// two proofs.
func withinBudget(ledgers []ledger) (problems []string) {
	type tally struct {
		open     map[uint64][33]byte // elements that no proof has given back, by number
		restored uint64
		last     uint64
	}
	for _, l := range ledgers {
		all := make(map[vault.UID]*tally)
		for _, e := range l.entries {
			t := all[e.UID]
			if t == nil {
				t = &tally{open: make(map[uint64][33]byte)}
				all[e.UID] = t
			}
			switch {
			case e.Kind == entrySpend:
				if e.Seq <= t.last {
					problems = append(problems, fmt.Sprintf("node %s, account %x: number %d after %d", l.node, e.UID[:4], e.Seq, t.last))
				}
				t.last = max(t.last, e.Seq)
				t.open[e.Seq] = e.Element
			case e.Kind == entryProve:
				t.restored = max(t.restored, e.Seq)
				for seq := range t.open {
					if seq <= t.restored {
						delete(t.open, seq)
					}
				}
			case e.Kind == entryCommit && e.How != howToken:
				clear(t.open)
			}
			elements := make(map[[33]byte]bool)
			for _, el := range t.open {
				elements[el] = true
			}
			if len(elements) > budget {
				problems = append(problems, fmt.Sprintf("node %s, account %x: %d elements without a proof", l.node, e.UID[:4], len(elements)))
			}
		}
	}
	return problems
}

// agreeing checks that all ledgers hold the same under a number, that this is
// what a client asked for, and that no node evaluated what it had not counted.
func agreeing(ledgers []ledger, ops []*op, evals []eval) (problems []string) {
	type place struct {
		uid vault.UID
		seq uint64
	}
	type guess struct {
		id      vault.AttemptID
		element [33]byte
	}
	asked := make(map[guess]bool)
	for _, o := range ops {
		if o.kind == opAttempt {
			asked[guess{o.id, o.element}] = true
		}
	}
	common := make(map[place]guess)
	own := make(map[string]map[place]guess)
	for _, l := range ledgers {
		own[l.node] = make(map[place]guess)
		for _, e := range l.spends() {
			p, g := place{e.UID, e.Seq}, guess{e.ID, e.Element}
			own[l.node][p] = g
			if c, ok := common[p]; ok && c != g {
				problems = append(problems, fmt.Sprintf("node %s, account %x: another attempt has number %d elsewhere", l.node, e.UID[:4], e.Seq))
			}
			common[p] = g
			if !asked[g] {
				problems = append(problems, fmt.Sprintf("node %s, account %x: nobody asked for attempt %d", l.node, e.UID[:4], e.Seq))
			}
		}
	}
	for _, e := range evals {
		if own[e.node][place{e.uid, e.seq}] != (guess{e.id, e.element}) {
			problems = append(problems, fmt.Sprintf("node %s, account %x: evaluated attempt %d, which its ledger does not hold", e.node, e.uid[:4], e.seq))
		}
	}
	return problems
}
