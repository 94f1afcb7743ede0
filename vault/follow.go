package vault

import (
	"context"
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
	t := s.tally(sn.uid)
	if code := s.regressed(sn, t); code != CodeOK {
		return code, nil
	}
	if err := s.followEnds(ctx, sn, t); err != nil { // before a commit that follows a destruction
		return CodeRetry, err
	}
	if t != nil && t.current == (Epoch{}) {
		// Only then: an epoch that this ledger has ended must not come back.
		if err := s.followCommit(ctx, sn, sn.a.Former); err != nil {
			return CodeRetry, err
		}
	}
	if err := s.followCommit(ctx, sn, sn.a.Current); err != nil {
		return CodeRetry, err
	}
	if err := s.followProof(ctx, sn); err != nil {
		return CodeRetry, err
	}
	if err := s.followAttempts(ctx, sn); err != nil {
		return CodeRetry, err
	}
	return CodeOK, s.followEnds(ctx, sn, s.tally(sn.uid))
}

// tally returns what the ledger knows of the account, nil if nothing.
func (s *Server) tally(uid UID) *tally {
	s.ledger.mu.RLock()
	defer s.ledger.mu.RUnlock()
	return s.ledger.tally[uid]
}

// regressed refuses a state that knows less than the ledger. After a restart it
// may, until the log is replayed; else somebody has rewritten it.
func (s *Server) regressed(sn snapshot, t *tally) Code {
	if t == nil {
		return CodeOK
	}
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
func (sn snapshot) lacks(t *tally) bool {
	lost := t.current != Epoch{} && sn.a.Current == nil && sn.a.Gone == 0
	return sn.a.Seq < t.seq || sn.a.Restored < t.restored || sn.feed < t.feed || lost
}

// catchUp is how long after the start a state may be behind the ledger.
const catchUp = 30 * time.Second

func (s *Server) followCommit(ctx context.Context, sn snapshot, r *registration) error {
	t := s.tally(sn.uid)
	if r == nil || t == nil {
		return nil // an account for which this node never made a key
	}
	if ep := t.epochs[r.Epoch]; ep != nil && ep.committed {
		return nil
	}
	rec, h, err := parseRecord(r.Record)
	if err != nil || h.Fleet != s.fleet || h.UID != sn.uid || h.Epoch != r.Epoch ||
		!verify(rec.Public, commitMessage(r.Record), r.Sig[:]) {
		return s.unauthorised("commit")
	}
	ep := t.epochs[r.Epoch]
	if n, in := h.node(s.c.NodeID); in && (ep == nil || ep.public != n.Public) {
		return s.unauthorised("commit") // it names a key that this node did not make
	}
	how, ok := s.right(t, sn, r, h)
	if !ok || h.Argon != s.manifest.Argon {
		return s.unauthorised("commit")
	}
	p := h.Policy.within(s.manifest.Policy) // a leader need not have asked whether it is acceptable
	return s.ledger.append(ctx, &entry{
		Kind: entryCommit, UID: sn.uid, Epoch: r.Epoch, Own: s.now(), Feed: sn.feed, At: r.At,
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

func (s *Server) followProof(ctx context.Context, sn snapshot) error {
	t, p := s.tally(sn.uid), sn.a.Proof
	if t == nil || p == nil || p.Seq <= t.restored || p.Seq > t.seq+maxGap {
		return nil
	}
	ep := t.epochs[p.Epoch]
	if ep == nil || !ep.committed || p.Seq <= ep.proved {
		return nil
	}
	if p.UID != sn.uid || !verify(ep.proof, proveMessage(p, ep.hash), p.Sig[:]) {
		return s.unauthorised("proof")
	}
	e := &entry{
		Kind: entryProve, UID: sn.uid, Epoch: p.Epoch, Own: s.now(), Feed: sn.feed, Seq: p.Seq, ID: p.ID, Sig: p.Sig[:],
	}
	// By both: the grace may end a little earlier by one clock than by the other, and
	// what this node restored and the state did not would look like a rollback.
	if p.Epoch != t.senior() || sn.a.Restored < p.Seq {
		e.How = howOwn
	}
	err := s.ledger.append(ctx, e)
	if err == nil {
		s.audit("a proof is accepted", sn, t)
	}
	return err
}

// audit logs what the ledger took, without saying whose it is: the position in the
// feed is what an operator compares between nodes.
func (s *Server) audit(what string, sn snapshot, t *tally) {
	s.log.Info(what, zap.Uint64("feed", sn.feed), zap.Int("left", max(0, int(t.budget)-t.used())))
}

func (s *Server) followAttempts(ctx context.Context, sn snapshot) error {
	for i := range sn.a.Attempts {
		at := &sn.a.Attempts[i]
		t := s.tally(sn.uid)
		if t == nil || at.Seq <= t.seq || t.maySpend(at) != CodeOK {
			continue
		}
		err := s.c.Auth.Check(at.Token, sn.uid, time.UnixMilli(at.At))
		if err != nil || ppss.CheckPoint(at.Element) != nil {
			if err := s.unauthorised("attempt"); err != nil {
				return err
			}
			continue
		}
		now := s.now()
		err = s.ledger.append(ctx, &entry{
			Kind: entrySpend, UID: sn.uid, Epoch: at.Epoch, Own: now, Feed: sn.feed,
			Seq: at.Seq, ID: at.ID, Element: at.Element,
			At: min(max(at.At, now-clockSlack.Milliseconds()), now),
		})
		if err != nil {
			return err
		}
		s.metrics.spends.Inc()
		s.audit("an attempt is counted", sn, t)
	}
	return nil
}

// unauthorised counts what the state shows and no client can have asked for.
func (s *Server) unauthorised(what string) error {
	s.metrics.unauthorised.WithLabelValues(what).Inc()
	s.log.Error("replicated state holds what no client authorised: ignored", zap.String("what", what))
	return nil
}

// followEnds ends the epochs that are over, by this node's own evidence and
// clock, and shreds their keys. What is not due yet by this clock is looked at again.
func (s *Server) followEnds(ctx context.Context, sn snapshot, t *tally) error {
	if t == nil {
		return nil
	}
	if err := s.followDisable(ctx, sn, t); err != nil {
		return err
	}
	ends, next := s.ended(sn, t)
	for _, e := range ends {
		err := s.ledger.append(ctx, &entry{Kind: entryEnd, UID: sn.uid, Epoch: e, Own: s.now(), Feed: sn.feed})
		if err != nil {
			return err
		}
	}
	s.again(sn.uid, next)
	return s.shred(ctx, sn.uid)
}

// followDisable notes when this node first saw an unsigned disable, for its own
// clock decides.
func (s *Server) followDisable(ctx context.Context, sn snapshot, t *tally) error {
	d := sn.a.Disable
	switch {
	case d != nil && len(d.Sig) == 0 && t.disabled == 0 && t.current != Epoch{}:
		if s.c.Auth.Check(d.Token, sn.uid, time.UnixMilli(d.At)) != nil {
			return s.unauthorised("disable")
		}
		return s.ledger.append(ctx, &entry{Kind: entryDisable, UID: sn.uid, Own: s.now(), Feed: sn.feed})
	case d == nil && t.disabled != 0 && sn.a.Gone == 0:
		return s.ledger.append(ctx, &entry{Kind: entryKeep, UID: sn.uid, Own: s.now(), Feed: sn.feed})
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
	left := make(map[UID]bool)
	for k := range s.ledger.leaver {
		left[k.uid] = true
	}
	for uid := range left {
		if err := s.shred(ctx, uid); err != nil {
			return err
		}
	}
	return nil
}

// leaves says whether the epoch is over and its key perhaps not shredded yet.
func (s *Server) leaves(uid UID, epoch Epoch) bool {
	s.ledger.mu.RLock()
	defer s.ledger.mu.RUnlock()
	_, ok := s.ledger.leaver[leaving{uid, epoch}]
	return ok
}

// shred destroys the keys of the account's ended epochs.
func (s *Server) shred(ctx context.Context, uid UID) error {
	var gone []leaving
	s.ledger.mu.RLock()
	for k := range s.ledger.leaver {
		if k.uid == uid {
			gone = append(gone, k)
		}
	}
	s.ledger.mu.RUnlock()
	for _, k := range gone {
		if err := s.keys.shred(k.uid, k.epoch); err != nil {
			return err
		}
		if err := s.ledger.append(ctx, &entry{Kind: entryGone, UID: k.uid, Epoch: k.epoch, Own: s.now()}); err != nil {
			return err
		}
		s.metrics.shredded.Inc()
		s.log.Info("a key is destroyed")
	}
	return nil
}
