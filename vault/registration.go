package vault

import (
	"bytes"

	"coffer/ppss"
)

// start stages an epoch: each node then makes its key for it and evaluates this
// one element. Another epoch takes the place of one that was staged before.
func (a *account) start(b *StartBody, c *Command) Code {
	if a.registration(b.Epoch) != nil || ppss.CheckPoint(b.Element) != nil {
		return CodeConflict
	}
	if a.Staged != nil && a.Staged.Epoch == b.Epoch {
		if a.Staged.Element != b.Element {
			return CodeConflict
		}
		return CodeOK
	}
	a.Staged = &staged{Epoch: b.Epoch, Element: b.Element, At: c.Time}
	return CodeOK
}

// commit makes the staged epoch the current one. Only a first registration, one
// after destruction, and one that the key of the epoch before has signed
// begin with a full budget. Otherwise whoever drops a client's replies, so that it
// registers again and again, would win a budget each time.
func (a *account) commit(b *CommitBody, c *Command) Code {
	rec, h, err := parseRecord(b.Record)
	if err != nil || h.UID != b.UID {
		return CodeMalformed
	}
	if r := a.registration(h.Epoch); r != nil {
		if !bytes.Equal(r.Record, b.Record) {
			return CodeConflict
		}
		return CodeOK
	}
	if a.Staged == nil || a.Staged.Epoch != h.Epoch {
		return CodeStale
	}
	if !verify(rec.Public, commitMessage(b.Record), b.Sig[:]) {
		return CodeSignature
	}
	next := &registration{Epoch: h.Epoch, Record: b.Record, Sig: b.Sig, Old: b.Old, At: c.Time, Token: c.Token, Policy: h.Policy}
	switch {
	case a.Gone != 0 && !h.Again:
		return CodeDestroyed
	case a.Current == nil: // first, or after destruction
		a.Gone, a.Disable = 0, nil
		a.fill(h.Policy.Budget, c.Time)
	case len(b.Old) != 0:
		old, _, err := parseRecord(a.senior().Record)
		if err != nil || !verify(old.Public, succeedMessage(b.Record), b.Old) {
			return CodeSignature
		}
		next.Before = a.senior().Epoch
		a.Former, a.Until = nil, 0
		a.Disable = nil
		a.fill(h.Policy.Budget, c.Time)
	default:
		a.replace(next, h, c)
	}
	a.Current, a.Staged = next, nil
	return CodeOK
}

// fill gives a full budget.
func (a *account) fill(budget uint8, now int64) {
	a.restore(a.Seq)
	a.Budget, a.Refilled = budget, now
}

// replace prepares for an epoch that nobody proved a right to. The one before
// lives on for its grace, under the same budget; if it came about like this
// itself, it gives way and the one before it stays: two registrations in a row must not
// push out the owner's.
func (a *account) replace(next *registration, h *Header, c *Command) {
	p := a.policy()
	next.Before = a.Current.Epoch
	if a.Former == nil {
		a.Former, a.Until = a.Current, c.Time+seconds(p.Grace).Milliseconds()
	}
	budget := min(a.Budget, h.Policy.Budget)
	if c.Time >= a.Refilled+seconds(p.Refill).Milliseconds() {
		a.fill(budget, c.Time)
		return
	}
	// Fewer attempts than before if the new policy says so, never more.
	a.Budget = uint8(min(int(a.Budget), a.used()+int(h.Policy.Budget)))
}
