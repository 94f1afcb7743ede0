package vault

import (
	"context"
	"encoding/binary"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	followTick = 5 * time.Second // how often Run looks at what is due by time
	sweepBatch = 128             // accounts a leader proposes at once
	followers  = 16              // accounts followed at once: their appends share a sync

	// gatherTime is how long a change waits for others, to share that sync with. An account
	// that somebody asks for is followed at once.
	gatherTime = 20 * time.Millisecond
)

// Run follows the state until ctx ends: it takes attempts, proofs and
// registrations into the ledger, destroys this node's keys when that is due, and
// as leader proposes what is due by time. It also compares ledgers with the other
// nodes, without which the server serves no guess; it returns [ErrRollback] when
// they have seen more of this node's ledger than there is.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.followAll(ctx) })
	g.Go(func() error { return s.witness.run(ctx, s.ledger) })
	return g.Wait()
}

func (s *Server) followAll(ctx context.Context) error {
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	f := &follower{Server: s}
	if err := f.begin(); err != nil {
		return err
	}
	byTime := true
	for {
		moved := s.moved()
		f.catchUp(ctx)
		if byTime {
			s.lookByTime(ctx)
			s.sweep(ctx)
		}
		again := f.reviewSome(ctx)
		byTime = false
		select {
		case <-moved:
			pause := time.NewTimer(s.gather)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Stop()
		case <-again:
		case <-tick.C:
			byTime = true
		case <-ctx.Done():
			return nil
		}
	}
}

// catchUp follows every account that the feed names after the position that was
// reached before.
func (f *follower) catchUp(ctx context.Context) {
	for ctx.Err() == nil {
		uids, changes, now, lost := f.feed(f.at)
		if now < f.at && time.Since(f.started) < catchUp {
			return // the log is still replayed
		}
		none := len(uids) == 0
		if changes != nil {
			uids = f.followGuesses(ctx, uids, changes)
		}
		var g errgroup.Group
		g.SetLimit(followers)
		for _, uid := range uids {
			g.Go(func() error { f.followOne(ctx, uid); return nil })
		}
		g.Wait()
		if ctx.Err() != nil {
			return
		}
		f.reached(now, lost)
		if none {
			break
		}
	}
	f.followed.Store(f.now())
}

// feed returns the accounts that changed after position at, and the position up to
// which that is so. lost says that the feed no longer reaches back so far. What
// changed is there too if it is known without reading it.
func (s *Server) feed(at uint64) (uids []UID, changes map[UID][]change, now uint64, lost bool) {
	seen := make(map[UID]bool)
	err := s.c.Log.View(func(kv KV) error {
		now = feedPosition(kv)
		var ok bool
		if uids, changes, ok = s.recent.take(at, now); ok {
			return nil
		}
		if lost = now < at || now-at > feedSize; lost {
			return nil
		}
		for n := at + 1; n <= now; n++ {
			if uid, ok := changed(kv, n); ok && !seen[uid] {
				seen[uid] = true
				uids = append(uids, uid)
			}
		}
		return nil
	})
	if err != nil {
		s.log.Warn("the state cannot be read", zap.Error(err))
		return nil, nil, at, false
	}
	return uids, changes, now, lost
}

func (s *Server) followOne(ctx context.Context, uid UID) {
	defer s.lock(uid).Unlock()
	sn, err := s.look(uid)
	if err == nil {
		_, err = s.follow(ctx, sn)
	}
	if err == nil {
		return
	}
	s.log.Error("an account was not followed", zap.Error(err))
	if err := s.ledger.lookAt(uid, s.now()+followTick.Milliseconds()); err != nil {
		s.log.Error("nor is it noted to try again", zap.Error(err))
	}
}

// lookByTime looks at the accounts whose time has come.
func (s *Server) lookByTime(ctx context.Context) {
	for ctx.Err() == nil {
		uids, err := s.ledger.due(s.now(), sweepBatch)
		if err != nil {
			s.log.Error("the ledger's index cannot be read", zap.Error(err))
			return
		}
		for _, uid := range uids {
			s.followOne(ctx, uid)
		}
		if len(uids) < sweepBatch {
			return
		}
	}
}

// sweep proposes, as leader, what is due by time.
func (s *Server) sweep(ctx context.Context) {
	if _, _, mine := s.c.Log.Leader(); !mine {
		return
	}
	now := s.now()
	var due []UID
	err := s.c.Log.View(func(kv KV) error {
		kv.Scan([]byte{'d'}, func(k, _ []byte) bool {
			if len(k) != 1+8+2+32 || int64(binary.BigEndian.Uint64(k[1:9])) > now {
				return false
			}
			due = append(due, UID(k[11:]))
			return len(due) < sweepBatch
		})
		return nil
	})
	if err != nil {
		s.log.Warn("the state cannot be read", zap.Error(err))
		return
	}
	for _, uid := range due {
		cmd := &Command{Kind: KindSweep, Time: now, Token: []byte{}, Body: encode(&RecordBody{UID: uid})}
		call, cancel := context.WithTimeout(ctx, callTime)
		_, err := s.c.Log.Propose(call, encodeCommand(cmd))
		cancel()
		if err != nil { // the next round, or the next leader, does it
			s.log.Debug("a sweep was not carried out", zap.Error(err))
			return
		}
	}
}
