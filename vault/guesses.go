package vault

import (
	"context"
	"slices"
)

// followGuesses follows those of the accounts to which nothing has happened but one
// guess that the machine has noted, which is what a vault is asked most: read at one
// moment of the state, and appended at once. It returns the others.
func (s *Server) followGuesses(ctx context.Context, uids []UID, changes map[UID][]change) (rest []UID) {
	for some := range slices.Chunk(uids, maxBatch) {
		rest = append(rest, s.followChunk(ctx, some, changes)...)
	}
	return rest
}

func (s *Server) followChunk(ctx context.Context, uids []UID, changes map[UID][]change) (rest []UID) {
	defer s.lockAll(uids)()
	var entries []*entry
	var taken []*following
	err := s.c.Log.View(func(kv KV) error {
		feed := feedPosition(kv)
		for _, uid := range uids {
			f, e := s.guess(kv, feed, uid, changes[uid])
			switch {
			case f == nil:
				rest = append(rest, uid)
			case e != nil:
				entries, taken = append(entries, e), append(taken, f)
			}
		}
		return nil
	})
	if err == nil && len(entries) != 0 {
		err = s.ledger.append(ctx, entries...)
	}
	if err != nil { // it is said, and noted to try again, for each
		return uids
	}
	for _, f := range taken {
		f.t.spends = append(f.t.spends, spend{}) // as the audit counts
		f.spent()
	}
	return rest
}

// guess returns the account and the entry for its one guess, a nil entry if there is
// nothing to be done, and a nil account if it is to be looked at whole.
func (s *Server) guess(kv KV, feed uint64, uid UID, changes []change) (*following, *entry) {
	t, err := s.ledger.tally(uid)
	if err != nil || len(changes) != 1 || changes[0].at == nil {
		return nil, nil
	}
	f := &following{s, snapshot{uid: uid, feed: feed}, t}
	if t == nil {
		return f, nil
	}
	c, _, err := loadCore(kv, uid)
	at := changes[0].at
	if err != nil || at.Seq != c.Seq || at.Seq != t.seq+1 || !c.settled(t, feed, 1) {
		return nil, nil
	}
	e, err := f.spend(at)
	if err != nil {
		return nil, nil
	}
	return f, e
}

// lockAll excludes others from the accounts' parts of the ledger, until unlock. The
// order keeps two callers from waiting for each other; who holds one lock waits for none.
func (s *Server) lockAll(uids []UID) (unlock func()) {
	places := make([]int, len(uids))
	for i, uid := range uids {
		places[i] = s.lockPlace(uid)
	}
	slices.Sort(places)
	places = slices.Compact(places)
	for _, p := range places {
		s.locks[p].Lock()
	}
	return func() {
		for _, p := range places {
			s.locks[p].Unlock()
		}
	}
}
