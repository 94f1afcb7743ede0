package vault

import (
	"slices"
	"time"
)

// tally is what the ledger knows of one account: one row of the index. But for look
// it changes only by entries, so that the ledger alone gives it again. It is the
// reader's own copy, as of when it was read; whoever appends for an account holds its
// lock in Server.
type tally struct {
	feed     uint64 // position of the newest state that an entry was taken from
	seq      uint64 // highest attempt seen
	restored uint64 // attempts up to here no longer count
	budget   uint8
	refilled int64 // own time
	spends   []spend
	epochs   map[Epoch]*epochTally
	current  Epoch   // zero if none lives
	former   Epoch   // zero if none lives
	until    int64   // own time when former ends
	disabled int64   // own time when an unsigned disable was first seen, 0 if none
	gone     bool    // it had a current epoch, and has none now
	leaving  []Epoch // over, and the key is perhaps not shredded yet
	look     int64   // own time when Run looks at the account again, 0: not by time
}

// spend is an attempt that counts. What is here may be evaluated, any number of
// times; what is not here may not.
type spend struct {
	seq     uint64
	id      AttemptID
	epoch   Epoch
	element [33]byte
	at      int64 // the leader's time, brought within clockSlack of ours
	own     int64
}

// epochTally is one epoch of an account on this node.
type epochTally struct {
	element   [33]byte // evaluated at registration
	public    [33]byte // of this node's key, zero if it does not take part
	committed bool
	proof     [32]byte
	hash      [32]byte
	policy    Policy
	used      uint32
	proved    uint64 // attempt of its newest proof
}

// posting is a change of the index under way.
type posting struct {
	index   Index
	tallies map[UID]*tally // that changed; nil: there is none
	changes map[string][]byte
}

func newPosting(ix Index) *posting {
	return &posting{index: ix, tallies: make(map[UID]*tally), changes: make(map[string][]byte)}
}

// readTally returns an account's row, nil if there is none.
func readTally(ix Index, uid UID) (*tally, error) {
	b, ok, err := ix.Get(tallyKey(uid))
	if err != nil || !ok {
		return nil, err
	}
	return decodeTally(b)
}

func (p *posting) tally(uid UID) (t *tally, err error) {
	if t, ok := p.tallies[uid]; ok {
		return t, nil
	}
	if t, err = readTally(p.index, uid); err == nil {
		p.tallies[uid] = t
	}
	return t, err
}

// write makes the changes, and moves the marks.
func (p *posting) write(at, from mark) error {
	for uid, t := range p.tallies {
		if t != nil {
			p.changes[string(tallyKey(uid))] = t.encode()
		}
	}
	p.changes[string(indexAt)], p.changes[string(indexFrom)] = at.encode(), from.encode()
	return p.index.Write(p.changes)
}

// apply takes an entry in.
func (p *posting) apply(e *entry) error {
	if e.Kind == entryFirst {
		return nil
	}
	t, err := p.tally(e.UID)
	if err != nil {
		return err
	}
	if e.Kind == entryGone {
		if t != nil {
			t.leaving = slices.DeleteFunc(t.leaving, func(o Epoch) bool { return o == e.Epoch })
		}
		p.changes[string(leavingKey(e.UID, e.Epoch))] = nil
		return nil
	}
	if t == nil {
		t = &tally{epochs: make(map[Epoch]*epochTally)}
		p.tallies[e.UID] = t
	}
	t.feed = max(t.feed, e.Feed)
	ep := t.epochs[e.Epoch]
	switch e.Kind {
	case entryKey:
		t.epochs[e.Epoch] = &epochTally{element: e.Element, public: e.Public}
	case entryCommit:
		p.applyCommit(t, e)
	case entrySpend:
		t.seq = max(t.seq, e.Seq)
		t.spends = append(t.spends, spend{e.Seq, e.ID, e.Epoch, e.Element, e.At, e.Own})
		if ep != nil {
			ep.used++
		}
	case entryProve:
		t.seq = max(t.seq, e.Seq)
		if ep != nil {
			ep.proved = max(ep.proved, e.Seq)
		}
		if e.How == howOwn {
			t.forgive(e.Epoch, e.Seq)
			break
		}
		t.restore(e.Seq)
		t.disabled = 0
	case entryDisable:
		t.disabled = e.Own
	case entryKeep:
		t.disabled = 0
	case entryEnd:
		p.end(e.UID, t, e.Epoch)
	}
	return nil
}

func (p *posting) applyCommit(t *tally, e *entry) {
	ep := t.epochs[e.Epoch]
	if ep == nil { // this node does not take part
		ep = new(epochTally)
		t.epochs[e.Epoch] = ep
	}
	ep.committed, ep.proof, ep.hash = true, e.Proof, e.Hash
	if e.Policy != nil {
		ep.policy = *e.Policy
	}
	switch e.How {
	case howFirst, howProven:
		for _, old := range []Epoch{t.current, t.former} {
			p.end(e.UID, t, old)
		}
		t.restore(t.seq)
		t.budget, t.refilled, t.disabled = ep.policy.Budget, e.Own, 0
	default:
		t.budget = uint8(min(int(t.budget), t.used()+int(ep.policy.Budget)))
		if e.How == howRefill {
			t.budget = min(t.budget, ep.policy.Budget)
			t.restore(t.seq)
			t.refilled = e.Own
		}
		if t.former == (Epoch{}) {
			t.former = t.current
			t.until = e.Own + seconds(t.policy().Grace).Milliseconds()
		} else {
			p.end(e.UID, t, t.current)
		}
	}
	t.current, t.gone = e.Epoch, false
}

// end makes an epoch unusable, and its key one that must go.
func (p *posting) end(uid UID, t *tally, e Epoch) {
	ep := t.epochs[e]
	if ep == nil {
		return
	}
	delete(t.epochs, e)
	if ep.public != ([33]byte{}) {
		t.leaving = append(t.leaving, e)
		p.changes[string(leavingKey(uid, e))] = []byte{}
	}
	if t.current == e {
		t.current, t.gone = Epoch{}, true
	}
	if t.former == e {
		t.former, t.until = Epoch{}, 0
	}
}

// used is how many attempts count against the budget.
func (t *tally) used() int { return len(t.spends) }

// senior is the epoch whose key speaks for the account, see [account.senior].
func (t *tally) senior() Epoch {
	if t.former != (Epoch{}) {
		return t.former
	}
	return t.current
}

// policy is that of the current epoch.
func (t *tally) policy() Policy {
	if ep := t.epochs[t.current]; ep != nil && ep.committed {
		return ep.policy
	}
	return DefaultPolicy()
}

func (t *tally) restore(seq uint64) {
	t.restored = max(t.restored, seq)
	var kept []spend
	for _, s := range t.spends {
		if s.seq > t.restored {
			kept = append(kept, s)
		}
	}
	t.spends = kept
}

// forgive makes an epoch's own attempts up to seq count no longer.
func (t *tally) forgive(e Epoch, seq uint64) {
	t.spends = slices.DeleteFunc(slices.Clone(t.spends), func(s spend) bool { return s.epoch == e && s.seq <= seq })
}

// spent returns the attempt with that number and the one before it.
func (t *tally) spent(seq uint64) (s, before spend, ok bool) {
	for i, s := range t.spends {
		if s.seq == seq {
			if i > 0 {
				before = t.spends[i-1]
			}
			return s, before, true
		}
	}
	return spend{}, spend{}, false
}

const (
	// clockSlack is how far the leader's clock may be from ours before the time it
	// gives an attempt is brought closer. It bounds what a lying leader saves of a delay.
	clockSlack = 15 * time.Minute
	// maxGap is how many attempts a node may have missed. Beyond that the number
	// is an invention: honest proofs of it would shut the account's count.
	maxGap = 10_000
)

// maySpend says whether the attempt may be counted, and so evaluated.
func (t *tally) maySpend(a *attempt) Code {
	ep := t.epochs[a.Epoch]
	switch {
	case a.Seq <= t.seq || a.Seq <= t.restored || a.Seq > t.seq+maxGap:
		return CodeRegression // numbers only grow
	case ep == nil || !ep.committed || a.Epoch != t.current && a.Epoch != t.former:
		return CodeStale
	case t.used() >= int(t.budget):
		return CodeDestroyed
	case ep.used >= t.policy().Lifetime:
		return CodeWorn
	}
	return CodeOK
}

// wait returns how long the spend must wait for its evaluation: the policy's
// delay since the attempt before, a little less as clocks differ.
func (t *tally) wait(s, before spend, now int64) time.Duration {
	if before.seq == 0 {
		return 0
	}
	k := 0
	for i, o := range t.spends {
		if o.seq == s.seq {
			k = i
		}
	}
	d := t.policy().delay(k)
	d -= d/10 + 2*time.Second
	return time.Duration(before.at+d.Milliseconds()-now) * time.Millisecond
}
