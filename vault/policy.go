package vault

import (
	"fmt"
	"slices"
	"time"
)

// Policy says how guesses are limited. It is part of the manifest, and of each
// record, where the client signs it: nodes follow the stricter of both. Times are
// in seconds.
type Policy struct {
	Budget   uint8    `cbor:"1,keyasint"` // attempts without a proof, 1 to 30
	Delays   []uint32 `cbor:"2,keyasint"` // Delays[k] passes after k unproved attempts before the next; the last one counts on; at most 30
	Deadline uint32   `cbor:"3,keyasint"` // for the proof of the last attempt; then the key is destroyed
	Lifetime uint32   `cbor:"4,keyasint"` // attempts in one epoch, proved or not
	Grace    uint32   `cbor:"5,keyasint"` // the old epoch lives on after a re-registration without proof
	Refill   uint32   `cbor:"6,keyasint"` // between two refills of the budget without proof
	Disable  uint32   `cbor:"7,keyasint"` // before a disable without signature takes effect
}

// DefaultPolicy is what fleets should use: ten attempts; none, none, 1 min,
// 5 min, 15 min, then an hour between them.
func DefaultPolicy() Policy {
	const minute, hour, day = 60, 3600, 86400
	return Policy{
		Budget:   10,
		Delays:   []uint32{0, 0, minute, 5 * minute, 15 * minute, hour},
		Deadline: 10 * minute,
		Lifetime: 100,
		Grace:    7 * day,
		Refill:   30 * day,
		Disable:  7 * day,
	}
}

// Check returns an error unless the policy is one that a node can follow.
func (p Policy) Check() error {
	const year = 366 * 86400
	switch {
	case p.Budget < 1 || p.Budget > 30:
		return fmt.Errorf("vault: policy: budget of %d, want 1 to 30", p.Budget)
	case len(p.Delays) > 30 || slices.ContainsFunc(p.Delays, func(d uint32) bool { return d > year }):
		return fmt.Errorf("vault: policy: more than 30 delays, or one over a year")
	case p.Deadline < 1 || max(p.Deadline, p.Grace, p.Refill, p.Disable) > year:
		return fmt.Errorf("vault: policy: deadline of 0, or a time over a year")
	case p.Lifetime < uint32(p.Budget) || p.Lifetime > 1000:
		return fmt.Errorf("vault: policy: lifetime of %d, want %d to 1000", p.Lifetime, p.Budget)
	}
	return nil
}

// refillSkew is how far the clocks of a node and of the leader may be apart at a
// refill. A policy that refills sooner than that never refills a ledger.
const refillSkew = time.Hour

// within returns a policy as strict as both p and m in each part: what a record that
// asks for p is granted in a fleet that follows m.
func (p Policy) within(m Policy) Policy {
	w := Policy{
		Budget: min(p.Budget, m.Budget), Lifetime: min(p.Lifetime, m.Lifetime), Refill: max(p.Refill, m.Refill),
		Deadline: max(p.Deadline, m.Deadline), Grace: max(p.Grace, m.Grace), Disable: max(p.Disable, m.Disable),
	}
	if seconds(m.Refill) <= refillSkew {
		w.Refill = m.Refill
	}
	at := func(d []uint32, k int) uint32 {
		if len(d) == 0 {
			return 0
		}
		return d[min(k, len(d)-1)]
	}
	for k := range max(len(p.Delays), len(m.Delays)) {
		w.Delays = append(w.Delays, max(at(p.Delays, k), at(m.Delays, k)))
	}
	return w
}

// delay is how long after the last of used unproved attempts the next may follow.
func (p Policy) delay(used int) time.Duration {
	if len(p.Delays) == 0 || used == 0 {
		return 0
	}
	return seconds(p.Delays[min(used, len(p.Delays)-1)])
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
