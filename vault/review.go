package vault

import (
	"context"
	"encoding/binary"
	"time"

	"go.uber.org/zap"
)

// follower is how far Run has followed the state. The index keeps it, so that a
// start goes on where the node ended: it looks at what has changed since, and by time
// at what is due. Only when the feed no longer reaches back so far, or the index is
// new, it reviews all accounts, in the background and a few at a time; meanwhile each
// account is followed before this node answers for it.
type follower struct {
	*Server
	at     uint64 // position of the feed
	review []byte // reviewed up to this UID; nil: none is under way
}

const reviewBatch = 256 // accounts between two looks at the feed

// begin takes up where the node ended.
func (f *follower) begin() error {
	b, ok, err := f.ledger.index.Get(indexFollowed)
	if err != nil {
		return err
	}
	if !ok || len(b) != 8 {
		f.review = make([]byte, len(UID{}))
		return f.c.Log.View(func(kv KV) error { f.at = feedPosition(kv); return nil })
	}
	f.at = binary.BigEndian.Uint64(b)
	b, ok, err = f.ledger.index.Get(indexReview)
	if ok && len(b) == len(UID{}) {
		f.review = b
	}
	return err
}

// reached notes that all accounts are followed up to a position of the feed, or, where
// changes are lost, that all must be reviewed.
func (f *follower) reached(now uint64, lost bool) {
	if lost {
		f.review = make([]byte, len(UID{}))
	}
	if now == f.at && !lost {
		return
	}
	f.at = now
	f.keep()
}

// keep writes how far it is. What is lost of it is done again.
func (f *follower) keep() {
	changes := map[string][]byte{
		string(indexFollowed): binary.BigEndian.AppendUint64(nil, f.at),
		string(indexReview):   f.review,
	}
	if err := f.ledger.index.Write(changes); err != nil {
		f.log.Error("the ledger's index cannot be written", zap.Error(err))
	}
}

// reviewed is when to go on with a review: at once.
var reviewed = func() <-chan time.Time { c := make(chan time.Time); close(c); return c }()

// reviewSome goes on with a review, if one is under way, and returns when to go on.
func (f *follower) reviewSome(ctx context.Context) (again <-chan time.Time) {
	if f.review == nil {
		return nil
	}
	var todo []UID
	n, last := 0, UID(f.review)
	err := f.c.Log.View(func(kv KV) error {
		feed := feedPosition(kv)
		return f.ledger.accounts(last, func(uid UID, t *tally) (bool, error) {
			c, _, err := loadCore(kv, uid)
			if err != nil {
				return false, err
			}
			if !c.settled(t, feed, 0) {
				todo = append(todo, uid)
			}
			n, last = n+1, uid
			return n < reviewBatch, nil
		})
	})
	if err != nil {
		f.log.Error("accounts were not reviewed", zap.Error(err))
		return nil // the next tick
	}
	for _, uid := range todo {
		f.followOne(ctx, uid)
	}
	if ctx.Err() != nil {
		return nil
	}
	if f.review = last[:]; n < reviewBatch {
		f.review = nil
		f.log.Info("all accounts are reviewed")
	}
	f.keep()
	return reviewed
}

// settled says that following the account would take so many attempts into the ledger
// and nothing else, and end nothing, whatever the time.
func (c *core) settled(t *tally, feed uint64, attempts int) bool {
	live := func(u use) Epoch {
		if u.live {
			return u.epoch
		}
		return Epoch{}
	}
	return !c.lacks(t, feed) && c.Gone == 0 && c.Due == 0 && c.Seq == t.seq+uint64(attempts) && c.Restored == t.restored &&
		live(c.current) == t.current && t.current != Epoch{} && !c.former.live && t.former == Epoch{} &&
		t.disabled == 0 && t.look == 0 && len(t.leaving) == 0 && len(t.epochs) == 1 && t.used()+attempts == int(c.counted)
}
