package vault

import (
	"context"
)

// eval evaluates a guess with this node's key, if the guess is counted: first in
// the replicated state, then in this node's ledger, synced and anchored. Only
// the element that was counted is ever evaluated; the same one again is free.
func (s *Server) eval(ctx context.Context, b *EvalBody) *Answer {
	_, ok, err := s.await(ctx, b.UID, func(sn snapshot) bool { return sn.a.find(b.ID) != nil || sn.a.Gone != 0 })
	if err != nil {
		return s.trouble("reading the state", err)
	}
	if !ok {
		return &Answer{Code: CodeStale}
	}
	defer s.lock(b.UID).Unlock()
	if a := s.caughtUp(ctx, b.UID); a != nil {
		return a
	}
	a, sp := s.counted(b)
	if a.Code != CodeOK {
		return a
	}
	kf, err := s.keys.load(b.UID, b.Epoch)
	if err != nil {
		return s.trouble("reading a key", err)
	}
	a.Result, err = s.c.HSM.Evaluate(ctx, keyOwner(s.fleet, s.c.NodeID, b.UID, b.Epoch), kf.Record, sp.element)
	if err != nil {
		return s.trouble("evaluating", err)
	}
	s.metrics.evaluations.Inc()
	a.Public = kf.Public
	return a
}

// counted finds the guess in the state and in the ledger, and says whether it may
// be evaluated now. The caller holds the account's lock and has followed.
func (s *Server) counted(b *EvalBody) (*Answer, spend) {
	sn, err := s.look(b.UID)
	if err != nil {
		return s.trouble("reading the state", err), spend{}
	}
	if sn.a.Gone != 0 {
		return &Answer{Code: CodeDestroyed}, spend{}
	}
	at := sn.a.find(b.ID)
	switch {
	case at == nil:
		return &Answer{Code: CodeStale}, spend{}
	case at.Element != b.Element || at.Epoch != b.Epoch:
		return &Answer{Code: CodeConflict}, spend{}
	}
	t, err := s.ledger.tally(b.UID)
	if err != nil {
		return s.trouble("reading the ledger", err), spend{}
	}
	if t == nil {
		return &Answer{Code: CodeNone}, spend{}
	}
	sp, before, ok := t.spent(at.Seq)
	if !ok { // the ledger did not take it: by its own budget, or for want of authority
		code := t.maySpend(at)
		if code == CodeOK {
			code = CodeDenied
		}
		return &Answer{Code: code}, spend{}
	}
	if sp.id != b.ID || sp.element != b.Element || sp.epoch != b.Epoch {
		s.metrics.regressions.Inc()
		s.regressions.Add(1)
		return &Answer{Code: CodeRegression}, spend{}
	}
	if ep := t.epochs[sp.epoch]; ep == nil || ep.public == ([33]byte{}) {
		return &Answer{Code: CodeNone}, spend{} // this node takes no part
	}
	if wait := t.wait(sp, before, s.now()); wait > 0 {
		return &Answer{Code: CodeWait, Retry: retrySeconds(wait.Milliseconds())}, spend{}
	}
	return &Answer{
		UID: b.UID, Epoch: b.Epoch, ID: b.ID, Element: b.Element, Seq: at.Seq,
		Left: uint8(max(0, int(t.budget)-t.used())), Failed: uint8(t.used()),
	}, sp
}

// find returns the attempt that counts, nil if there is none with the id.
func (a *account) find(id AttemptID) *attempt {
	for i := range a.Attempts {
		if a.Attempts[i].ID == id {
			return &a.Attempts[i]
		}
	}
	return nil
}
