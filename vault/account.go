package vault

import (
	"math"
	"slices"
	"time"
)

// account is the machine's state for one account, whole: what a guess needs is in
// its core, and everything else in rows that guesses leave alone.
type account struct {
	core
	Current  *registration
	Former   *registration // of before an unproven re-registration
	Staged   *staged
	Attempts []attempt  // those that count, in order
	Proof    *ProveBody // the last one
	Disable  *disable   // pending or carried out

	stored map[string][]byte // the rows as they were loaded
}

// registration is one committed epoch, with all that shows a node's ledger by
// whose authority.
type registration struct {
	Epoch  Epoch    `cbor:"-"` // in the key and in the core
	Used   uint32   `cbor:"-"` // in the core: attempts in this epoch, proved or not
	Record []byte   `cbor:"1,keyasint"`
	Sig    [64]byte `cbor:"2,keyasint"`
	Old    []byte   `cbor:"3,keyasint"` // signature by the epoch before, or empty
	Before Epoch    `cbor:"4,keyasint"` // the epoch before, zero if none
	At     int64    `cbor:"5,keyasint"` // Unix ms
	Token  []byte   `cbor:"6,keyasint"` // the client's
	Policy Policy   `cbor:"7,keyasint"` // the record's, at hand
}

type staged struct {
	Epoch   Epoch    `cbor:"1,keyasint"`
	Element [33]byte `cbor:"2,keyasint"`
	At      int64    `cbor:"3,keyasint"` // Unix ms
}

// attempt is a guess that counts. Its row is written in [core.attempt].
type attempt struct {
	Seq     uint64
	ID      AttemptID
	Epoch   Epoch
	Element [33]byte
	At      int64 // Unix ms
	Token   []byte
}

type disable struct {
	Epoch Epoch  `cbor:"1,keyasint"`
	Sig   []byte `cbor:"2,keyasint"` // empty: delayed
	At    int64  `cbor:"3,keyasint"` // Unix ms
	Token []byte `cbor:"4,keyasint"`
}

// stagedLife is how long a staged epoch waits for its commit.
const stagedLife = 24 * time.Hour

// used is how many attempts count against the budget.
func (a *account) used() int { return len(a.Attempts) }

func (a *account) left() int { return max(0, int(a.Budget)-a.used()) }

// registration returns the committed epoch, nil if it is not (or no longer) one.
func (a *account) registration(e Epoch) *registration {
	for _, r := range []*registration{a.Current, a.Former} {
		if r != nil && r.Epoch == e {
			return r
		}
	}
	return nil
}

// senior is the registration whose key speaks for the account: while a former one
// lives, the current one has its place by the token alone, and speaks for itself.
func (a *account) senior() *registration {
	if a.Former != nil {
		return a.Former
	}
	return a.Current
}

// policy is that of the current epoch.
func (a *account) policy() Policy {
	if a.Current == nil {
		return DefaultPolicy()
	}
	return a.Current.Policy
}

// restore makes the attempts up to seq count no longer.
func (a *account) restore(seq uint64) {
	a.Restored = max(a.Restored, seq)
	kept := a.Attempts[:0]
	for _, t := range a.Attempts {
		if t.Seq > a.Restored {
			kept = append(kept, t)
		}
	}
	a.Attempts = kept
}

// forgive makes an epoch's own attempts up to seq count no longer.
func (a *account) forgive(e Epoch, seq uint64) {
	a.Attempts = slices.DeleteFunc(a.Attempts, func(t attempt) bool { return t.Epoch == e && t.Seq <= seq })
}

// endsBy returns when something but the budget ends by time alone, as Unix ms, and
// [math.MaxInt64] if never. With [core.due] it says exactly when advance has something to do.
func (a *account) endsBy() int64 {
	at := int64(math.MaxInt64)
	if a.Staged != nil {
		at = min(at, a.Staged.At+stagedLife.Milliseconds())
	}
	if a.Gone != 0 || a.Current == nil {
		return at
	}
	if a.Former != nil {
		at = min(at, a.Until)
	}
	if a.Disable != nil {
		at = min(at, a.Disable.At+seconds(a.policy().Disable).Milliseconds())
	}
	return at
}

// advance does what is due at now, Unix ms.
func (a *account) advance(now int64) {
	if a.Staged != nil && now >= a.Staged.At+stagedLife.Milliseconds() {
		a.Staged = nil
	}
	if a.Gone != 0 || a.Current == nil {
		return
	}
	p := a.policy()
	late := a.left() == 0 && now >= a.Last+seconds(p.Deadline).Milliseconds()
	disabled := a.Disable != nil && now >= a.Disable.At+seconds(p.Disable).Milliseconds()
	if late || disabled {
		a.destroy(now)
		return
	}
	if a.Former != nil && now >= a.Until {
		a.Former, a.Until = nil, 0
	}
}

// destroy forgets the records. The attempts or the disable stay as evidence for
// the nodes' ledgers, until a new registration.
func (a *account) destroy(now int64) {
	a.Gone = now
	a.Current, a.Former, a.Until, a.Staged = nil, nil, 0, nil
}
