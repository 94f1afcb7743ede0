package vault

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"coffer/ppss"
)

// answer decides what a request gets. Nothing is looked up before the token is
// accepted: to strangers, all accounts look the same.
func (s *Server) answer(ctx context.Context, r *Request, by *inForce) *Answer {
	if r.Manifest != by.hash {
		return &Answer{Code: CodeManifest}
	}
	body, uid, err := parseBody(r.Kind, r.Body)
	if err != nil {
		return &Answer{Code: CodeMalformed}
	}
	if r.Kind == KindState {
		return &Answer{Record: encode(s.state())}
	}
	if b, ok := body.(*HeadBody); ok {
		return &Answer{Record: s.witness.of(b.Node)}
	}
	if err := s.c.Auth.Check(r.Token, uid, clock()); err != nil {
		s.log.Info("a token was refused", zap.String("kind", kindNames[r.Kind]), zap.Error(err))
		return &Answer{Code: CodeDenied}
	}
	if !s.limits.accounts.allow(uid) {
		return &Answer{Code: CodeLimited, Retry: 1}
	}
	switch b := body.(type) {
	case *RecordBody:
		return s.record(ctx, uid)
	case *KeyBody, *EvalBody:
		if !s.witness.enough() { // its ledger may be an old copy
			return &Answer{Code: CodeRetry, Retry: 1}
		}
		if b, ok := b.(*EvalBody); ok {
			return s.eval(ctx, b)
		}
		return s.key(ctx, b.(*KeyBody))
	case *ReceiptBody:
		return s.receipt(ctx, b)
	}
	return s.propose(ctx, r, body, uid, by.manifest)
}

// propose puts a command into the log, if this node leads.
func (s *Server) propose(ctx context.Context, r *Request, body any, uid UID, m *Manifest) *Answer {
	if id, _, mine := s.c.Log.Leader(); !mine {
		return &Answer{Code: CodeNotLeader, Leader: id}
	}
	if b, ok := body.(*CommitBody); ok && !acceptable(b, m) {
		return &Answer{Code: CodeMalformed}
	}
	if b, ok := body.(*AttemptBody); ok && ppss.CheckPoint(b.Element) != nil {
		return &Answer{Code: CodeMalformed} // before it counts; the machine does not ask
	}
	out, err := s.c.Log.Propose(ctx, encodeCommand(&Command{Kind: r.Kind, Time: s.now(), Token: r.Token, Body: r.Body}))
	if err != nil {
		if id, _, mine := s.c.Log.Leader(); !mine {
			return &Answer{Code: CodeNotLeader, Leader: id} // asking again is harmless whatever became of it
		}
		s.log.Warn("a command was not carried out, or not seen to be", zap.String("kind", kindNames[r.Kind]), zap.Error(err))
		return &Answer{Code: CodeRetry, Retry: 1}
	}
	var o outcome
	if err := o.decode(out); err != nil {
		s.log.Error("the machine's answer is malformed", zap.Error(err))
		return &Answer{Code: CodeRetry, Retry: 1}
	}
	a := &Answer{Code: o.Code, Retry: o.Retry, UID: uid, Left: o.Left, Failed: o.Failed, Last: uint64(o.Last), Seq: o.Seq}
	if b, ok := body.(*AttemptBody); ok {
		a.Epoch, a.ID, a.Element = b.Epoch, b.ID, b.Element
	}
	return a
}

// acceptable refuses a record that asks for more than the fleet grants, or for
// another stretching. The ledgers would not follow it; so it is better never in the log.
func acceptable(b *CommitBody, m *Manifest) bool {
	_, h, err := parseRecord(b.Record)
	if err != nil || h.Fleet != m.Fleet || h.UID != b.UID || h.Threshold != m.Threshold || len(b.Record) > maxRecord {
		return false
	}
	return h.Argon == m.Argon && string(encode(h.Policy)) == string(encode(m.Policy))
}

// maxRecord lets two records fit an answer.
const maxRecord = 1600

// record answers with what this node's state holds.
func (s *Server) record(_ context.Context, uid UID) *Answer {
	sn, err := s.look(uid)
	if err != nil {
		return s.trouble("reading the state", err)
	}
	sn.a.advance(s.now())
	a := &Answer{
		UID: uid, Left: uint8(sn.a.left()), Failed: uint8(min(sn.a.used(), 255)), Last: uint64(sn.a.Last), Seq: sn.a.Seq,
	}
	if sn.a.Disable != nil {
		a.Disable = uint64(sn.a.Disable.At)
	}
	switch {
	case sn.a.Gone != 0:
		a.Code = CodeDestroyed
	case sn.a.Current == nil:
		a.Code = CodeNone
	default:
		a.Epoch, a.Record, a.Used = sn.a.Current.Epoch, sn.a.Current.Record, sn.a.Current.Used
		if sn.a.Former != nil {
			a.Former = sn.a.Former.Record
		}
	}
	return a
}

// trouble logs what is wrong with this node, and tells the client to ask again.
func (s *Server) trouble(doing string, err error) *Answer {
	s.log.Error("a request was not carried out", zap.String("doing", doing), zap.Error(err))
	return &Answer{Code: CodeRetry, Retry: 1}
}

// key makes this node's key for a staged epoch, once, and evaluates the staged
// element with it.
func (s *Server) key(ctx context.Context, b *KeyBody) *Answer {
	sn, ok, err := s.await(ctx, b.UID, func(sn snapshot) bool {
		return sn.a.Staged != nil && sn.a.Staged.Epoch == b.Epoch
	})
	if err != nil {
		return s.trouble("reading the state", err)
	}
	if !ok {
		return &Answer{Code: CodeStale}
	}
	if sn.a.Staged.Element != b.Element {
		return &Answer{Code: CodeConflict}
	}
	defer s.lock(b.UID).Unlock()
	t, err := s.ledger.tally(b.UID)
	if err != nil {
		return s.trouble("reading the ledger", err)
	}
	if t != nil && slices.Contains(t.leaving, b.Epoch) { // its key may be there still
		return &Answer{Code: CodeConflict}
	}
	kf, err := s.keys.load(b.UID, b.Epoch)
	if errors.Is(err, os.ErrNotExist) {
		kf, err = s.makeKey(ctx, b.UID, b.Epoch)
	}
	if err != nil {
		return s.trouble("making a key", err)
	}
	var ep *epochTally
	if t != nil {
		ep = t.epochs[b.Epoch]
	}
	switch {
	case ep == nil:
		err := s.ledger.append(ctx, &entry{
			Kind: entryKey, UID: b.UID, Epoch: b.Epoch, Own: s.now(), Feed: sn.feed, Element: b.Element, Public: kf.Public,
		})
		if err != nil {
			return s.trouble("counting a key", err)
		}
	case ep.element != b.Element || ep.public != kf.Public || ep.committed:
		return &Answer{Code: CodeConflict}
	}
	p, err := s.c.HSM.Evaluate(ctx, keyOwner(s.fleet, s.c.NodeID, b.UID, b.Epoch), kf.Record, b.Element)
	if err != nil {
		return s.trouble("evaluating at registration", err)
	}
	return &Answer{UID: b.UID, Epoch: b.Epoch, Element: b.Element, Result: p, Public: kf.Public}
}

func (s *Server) makeKey(ctx context.Context, uid UID, epoch Epoch) (*keyFile, error) {
	record, public, err := s.c.HSM.NewKey(ctx, keyOwner(s.fleet, s.c.NodeID, uid, epoch))
	if err != nil {
		return nil, err
	}
	kf := &keyFile{Version: version, UID: uid, Epoch: epoch, Public: public, Record: record}
	return kf, s.keys.store(kf)
}

// receipt says whether this node's ledger holds a record.
func (s *Server) receipt(ctx context.Context, b *ReceiptBody) *Answer {
	_, ok, err := s.await(ctx, b.UID, func(sn snapshot) bool { return sn.a.registration(b.Epoch) != nil })
	if err != nil {
		return s.trouble("reading the state", err)
	}
	if !ok {
		return &Answer{Code: CodeRetry}
	}
	defer s.lock(b.UID).Unlock()
	if a := s.caughtUp(ctx, b.UID); a != nil {
		return a
	}
	t, err := s.ledger.tally(b.UID)
	if err != nil {
		return s.trouble("reading the ledger", err)
	}
	if t == nil {
		return &Answer{Code: CodeNone}
	}
	if ep := t.epochs[b.Epoch]; ep == nil || !ep.committed || ep.hash != b.Hash {
		return &Answer{Code: CodeConflict}
	}
	return &Answer{UID: b.UID, Epoch: b.Epoch}
}

// caughtUp brings the account's part of the ledger up to the state. It returns
// the answer to give if that is not possible. The caller holds the account's lock.
func (s *Server) caughtUp(ctx context.Context, uid UID) *Answer {
	sn, err := s.look(uid)
	if err != nil {
		return s.trouble("reading the state", err)
	}
	code, err := s.follow(ctx, sn)
	if err != nil {
		return s.trouble("following the state", err)
	}
	if code != CodeOK {
		return &Answer{Code: code, Retry: 1}
	}
	return nil
}

// awaitTime is how long a node waits until it has applied what the leader has.
const awaitTime = 3 * time.Second

// await looks at the account until ready says so, for the leader answers before
// the other nodes have applied a command.
func (s *Server) await(ctx context.Context, uid UID, ready func(snapshot) bool) (snapshot, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, awaitTime)
	defer cancel()
	for {
		moved := s.moved() // before looking: what moves after it is seen
		sn, err := s.look(uid)
		if err != nil || ready(sn) {
			return sn, err == nil, err
		}
		poll := time.NewTimer(50 * time.Millisecond) // also without Applied
		select {
		case <-moved:
		case <-poll.C:
		case <-ctx.Done():
			poll.Stop()
			return sn, false, nil
		}
		poll.Stop()
	}
}
