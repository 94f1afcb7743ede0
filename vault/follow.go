package vault

import (
	"context"
	"errors"
	"math"
	"time"

	"go.uber.org/zap"

	"coffer/ppss"
)

// snapshot is an account as the replicated state shows it at one moment.
type snapshot struct {
	uid   UID
	a     *account
	known bool
	feed  uint64
}

// look reads the account from this node's applied state.
func (s *Server) look(uid UID) (snapshot, error) {
	var sn snapshot
	err := s.c.Log.View(func(kv KV) error {
		var err error
		sn, err = lookIn(kv, uid)
		return err
	})
	return sn, err
}

func lookIn(kv KV, uid UID) (sn snapshot, err error) {
	sn.uid, sn.feed = uid, feedPosition(kv)
	sn.a, sn.known, err = loadAccount(kv, uid)
	return sn, err
}

// follow takes what the state shows of an account into the ledger, as far as
// clients authorised it. The order matters: a commit brings the key that
// verifies a proof, and a proof makes room for attempts. The caller holds the
// account's lock. A code other than CodeOK means that the state is not to be
// acted upon; what was taken before stays.
func (s *Server) follow(ctx context.Context, sn snapshot) (Code, error) {
	t, err := s.ledger.tally(sn.uid)
	if err != nil {
		return CodeRetry, err
	}
	if t == nil {
		return CodeOK, nil // an account for which this node never made a key
	}
	if code := s.regressed(sn, t); code != CodeOK {
		return code, nil
	}
	f := &following{s, sn, t}
	if err := f.ends(ctx); err != nil { // before a commit that follows a destruction
		return CodeRetry, err
	}
	if f.t.current == (Epoch{}) {
		// Only then: an epoch that this ledger has ended must not come back.
		if err := f.commit(ctx, sn.a.Former); err != nil {
			return CodeRetry, err
		}
	}
	if err := f.commit(ctx, sn.a.Current); err != nil {
		return CodeRetry, err
	}
	if err := f.proof(ctx); err != nil {
		return CodeRetry, err
	}
	if err := f.attempts(ctx); err != nil {
		return CodeRetry, err
	}
	return CodeOK, f.ends(ctx)
}

// following is one account on its way from the state into the ledger.
type following struct {
	*Server
	sn snapshot
	t  *tally // as of the last entry
}

// append appends to the ledger, and looks at what it says then.
func (f *following) append(ctx context.Context, e *entry) error {
	err := f.ledger.append(ctx, e)
	if err != nil {
		return err
	}
	t, err := f.ledger.tally(f.sn.uid)
	if err == nil && t == nil {
		err = errNotCounted
	}
	if err == nil {
		f.t = t
	}
	return err
}

var errNotCounted = errors.New("vault: the ledger's index does not have what was appended")

// regressed refuses a state that knows less than the ledger. After a restart it
// may, until the log is replayed; else somebody has rewritten it.
func (s *Server) regressed(sn snapshot, t *tally) Code {
	if !sn.lacks(t) {
		return CodeOK
	}
	behind := sn.feed < t.feed
	if behind && time.Since(s.started) < catchUp {
		return CodeRetry
	}
	s.metrics.regressions.Inc()
	s.regressions.Add(1)
	s.log.Error("replicated state is behind this node's ledger: not evaluating",
		zap.Uint64("feed", sn.feed), zap.Bool("position", behind))
	return CodeRegression
}

// lacks says whether the state knows less of the account than the ledger does.
func (sn snapshot) lacks(t *tally) bool { return sn.a.core.lacks(t, sn.feed) }

// lacks is that for an account in a state with that feed.
func (c *core) lacks(t *tally, feed uint64) bool {
	lost := t.current != Epoch{} && !c.current.live && c.Gone == 0
	return c.Seq < t.seq || c.Restored < t.restored || feed < t.feed || lost
}

// catchUp is how long after the start a state may be behind the ledger.
const catchUp = 30 * time.Second

func (f *following) commit(ctx context.Context, r *registration) error {
	sn, t := f.sn, f.t
	if r == nil {
		return nil
	}
	if ep := t.epochs[r.Epoch]; ep != nil && ep.committed {
		return nil
	}
	rec, h, err := parseRecord(r.Record)
	if err != nil || h.Fleet != f.fleet || h.UID != sn.uid || h.Epoch != r.Epoch ||
		!verify(rec.Public, commitMessage(r.Record), r.Sig[:]) {
		return f.unauthorised("commit")
	}
	ep := t.epochs[r.Epoch]
	if n, in := h.node(f.c.NodeID); in && (ep == nil || ep.public != n.Public) {
		return f.unauthorised("commit") // it names a key that this node did not make
	}
	how, ok := f.right(t, sn, r, h)
	if !ok || !f.inForce().stretched[h.Argon] {
		return f.unauthorised("commit")
	}
	p := h.Policy.within(f.inForce().manifest.Policy) // a leader need not have asked whether it is acceptable
	return f.append(ctx, &entry{
		Kind: entryCommit, UID: sn.uid, Epoch: r.Epoch, Own: f.now(), Feed: sn.feed, At: r.At,
		Proof: rec.Public, Hash: recordHash(r.Record), Policy: &p, How: how, Sig: r.Old,
	})
}

// right says by what right r may replace what the ledger has, and whether it may.
func (s *Server) right(t *tally, sn snapshot, r *registration, h *Header) (how, bool) {
	if t.current == (Epoch{}) {
		return howFirst, !t.gone || h.Again
	}
	if before := t.epochs[r.Before]; before != nil && before.committed && r.Before == t.senior() && len(r.Old) != 0 &&
		verify(before.proof, succeedMessage(r.Record), r.Old) {
		return howProven, true
	}
	if err := s.c.Auth.Check(r.Token, sn.uid, time.UnixMilli(r.At)); err != nil {
		return 0, false
	}
	if refill := seconds(t.policy().Refill); refill > refillSkew && s.now() >= t.refilled+(refill-refillSkew).Milliseconds() {
		return howRefill, true
	}
	return howToken, true
}

func (f *following) proof(ctx context.Context) error {
	sn, t, p := f.sn, f.t, f.sn.a.Proof
	if p == nil || p.Seq <= t.restored || p.Seq > t.seq+maxGap {
		return nil
	}
	ep := t.epochs[p.Epoch]
	if ep == nil || !ep.committed || p.Seq <= ep.proved {
		return nil
	}
	if p.UID != sn.uid || !verify(ep.proof, proveMessage(p, ep.hash), p.Sig[:]) {
		return f.unauthorised("proof")
	}
	e := &entry{
		Kind: entryProve, UID: sn.uid, Epoch: p.Epoch, Own: f.now(), Feed: sn.feed, Seq: p.Seq, ID: p.ID, Sig: p.Sig[:],
	}
	// By both: the grace may end a little earlier by one clock than by the other, and
	// what this node restored and the state did not would look like a rollback.
	if p.Epoch != t.senior() || sn.a.Restored < p.Seq {
		e.How = howOwn
	}
	err := f.append(ctx, e)
	if err == nil {
		f.audit("a proof is accepted")
	}
	return err
}

// audit logs what the ledger took, without saying whose it is: the position in the
// feed is what an operator compares between nodes.
func (f *following) audit(what string) {
	f.log.Info(what, zap.Uint64("feed", f.sn.feed), zap.Int("left", max(0, int(f.t.budget)-f.t.used())))
}

func (f *following) attempts(ctx context.Context) error {
	for i := range f.sn.a.Attempts {
		if err := f.attempt(ctx, &f.sn.a.Attempts[i]); err != nil {
			return err
		}
	}
	return nil
}

func (f *following) attempt(ctx context.Context, at *attempt) error {
	e, err := f.spend(at)
	if err != nil || e == nil {
		return err
	}
	if err := f.append(ctx, e); err != nil {
		return err
	}
	f.spent()
	return nil
}

// spend returns the entry for an attempt, nil if the ledger does not take it.
func (f *following) spend(at *attempt) (*entry, error) {
	if at.Seq <= f.t.seq || f.t.maySpend(at) != CodeOK {
		return nil, nil
	}
	err := f.c.Auth.Check(at.Token, f.sn.uid, time.UnixMilli(at.At))
	if err != nil || ppss.CheckPoint(at.Element) != nil {
		return nil, f.unauthorised("attempt")
	}
	now := f.now()
	return &entry{
		Kind: entrySpend, UID: f.sn.uid, Epoch: at.Epoch, Own: now, Feed: f.sn.feed,
		Seq: at.Seq, ID: at.ID, Element: at.Element,
		At: min(max(at.At, now-clockSlack.Milliseconds()), now),
	}, nil
}

func (f *following) spent() {
	f.metrics.spends.Inc()
	f.audit("an attempt is counted")
}

// unauthorised counts what the state shows and no client can have asked for.
func (s *Server) unauthorised(what string) error {
	s.metrics.unauthorised.WithLabelValues(what).Inc()
	s.log.Error("replicated state holds what no client authorised: ignored", zap.String("what", what))
	return nil
}

// ends ends the epochs that are over, by this node's own evidence and
// clock, and shreds their keys. What is not due yet by this clock is looked at again.
func (f *following) ends(ctx context.Context) error {
	if err := f.disable(ctx); err != nil {
		return err
	}
	ends, next := f.ended(f.sn, f.t)
	for _, e := range ends {
		err := f.append(ctx, &entry{Kind: entryEnd, UID: f.sn.uid, Epoch: e, Own: f.now(), Feed: f.sn.feed})
		if err != nil {
			return err
		}
	}
	if next != f.t.look {
		if err := f.ledger.lookAt(f.sn.uid, next); err != nil {
			return err
		}
		f.t.look = next
	}
	if len(f.t.leaving) == 0 {
		return nil
	}
	err := f.shred(ctx, f.sn.uid, f.t.leaving)
	if err == nil {
		f.t.leaving = nil
	}
	return err
}

// disable notes when this node first saw an unsigned disable, for its own
// clock decides.
func (f *following) disable(ctx context.Context) error {
	sn, t := f.sn, f.t
	d := sn.a.Disable
	switch {
	case d != nil && len(d.Sig) == 0 && t.disabled == 0 && t.current != Epoch{}:
		if f.c.Auth.Check(d.Token, sn.uid, time.UnixMilli(d.At)) != nil {
			return f.unauthorised("disable")
		}
		return f.append(ctx, &entry{Kind: entryDisable, UID: sn.uid, Own: f.now(), Feed: sn.feed})
	case d == nil && t.disabled != 0 && sn.a.Gone == 0:
		return f.append(ctx, &entry{Kind: entryKeep, UID: sn.uid, Own: f.now(), Feed: sn.feed})
	}
	return nil
}

// ended returns the epochs that are over, and when to look again, as Unix ms of
// this node's clock: the state may want more ended than the clock allows yet. 0
// means not before the state moves.
func (s *Server) ended(sn snapshot, t *tally) (ends []Epoch, next int64) {
	now, over := s.now(), s.over(sn, t)
	for e, ep := range t.epochs {
		at := over
		if ep.committed && e == t.former {
			at = min(at, t.until)
		}
		if !ep.committed && sn.a.registration(e) == nil && (sn.a.Staged == nil || sn.a.Staged.Epoch != e) {
			at = 0 // staged, and no longer wanted: nothing depends on it
		}
		switch {
		case now >= at:
			ends = append(ends, e)
		case at != math.MaxInt64 && (next == 0 || at < next):
			next = at
		}
	}
	return ends, next
}

// over returns when all epochs of the account end, by what this node has seen
// itself and by the state's word: each alone could be wrong. [math.MaxInt64] means never.
func (s *Server) over(sn snapshot, t *tally) int64 {
	at, p := int64(math.MaxInt64), t.policy()
	if t.current == (Epoch{}) {
		return at
	}
	// A first registration in the place of ours is such a word too. Without one a
	// proof may have come that this node has not seen yet.
	again := sn.a.Current != nil && sn.a.Current.Before == (Epoch{}) && sn.a.Current.Epoch != t.current
	if n := t.used(); n > 0 && n >= int(t.budget) && (sn.a.Gone != 0 || again) {
		at = t.spends[n-1].own + seconds(p.Deadline).Milliseconds()
	}
	d := sn.a.Disable
	if d == nil || sn.a.Gone == 0 {
		return at
	}
	if ep := t.epochs[d.Epoch]; ep != nil && ep.committed && d.Epoch == t.senior() && len(d.Sig) != 0 {
		b := &DisableBody{UID: sn.uid, Epoch: d.Epoch, Sig: d.Sig}
		if verify(ep.proof, disableMessage(b, ep.hash), d.Sig) {
			return 0
		}
	}
	if t.disabled != 0 {
		at = min(at, t.disabled+seconds(p.Disable).Milliseconds())
	}
	return at
}

// shredLeft does what a crash left undone, before anything is served: the state may
// stage an ended epoch once more, and its key would be there.
func (s *Server) shredLeft(ctx context.Context) error {
	left := make(map[UID][]Epoch)
	err := s.ledger.leavers(func(uid UID, e Epoch) { left[uid] = append(left[uid], e) })
	if err != nil {
		return err
	}
	for uid, epochs := range left {
		if err := s.shred(ctx, uid, epochs); err != nil {
			return err
		}
	}
	return nil
}

// shred destroys keys of the account's ended epochs.
func (s *Server) shred(ctx context.Context, uid UID, epochs []Epoch) error {
	for _, e := range epochs {
		if err := s.keys.shred(uid, e); err != nil {
			return err
		}
		if err := s.ledger.append(ctx, &entry{Kind: entryGone, UID: uid, Epoch: e, Own: s.now()}); err != nil {
			return err
		}
		s.metrics.shredded.Inc()
		s.log.Info("a key is destroyed")
	}
	return nil
}
