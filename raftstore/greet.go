package raftstore

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// greeter exchanges holdings on every new connection, before raft may use it:
// each side says what its disk holds and what it remembers of the other. So a
// node votes for a peer, or acknowledges an entry to him, only after that peer
// had the chance to say "you held more than that". A node that was given an old
// disk ends with ErrRolledBack; one that does not notice is refused.
//
//	1 version, 32 own holding, 32 what is remembered of the other
type greeter struct {
	holds    func() (holding, error)
	known    func(id string) holding // from the replicated state
	rolled   func(error)             // this node's disk was rolled back
	detected func()                  // a peer's was
	log      *zap.Logger
	news     chan struct{} // a peer has started

	mu    sync.Mutex
	heard map[string]holding // what peers said last: Start and Nonce
	owed  map[string]debt    // by peers that were refused and not heard since
}

const (
	greetVersion = 1
	greetSize    = 1 + 2*holdingSize
)

// greet exchanges greetings with the peer on conn.
func (g *greeter) greet(peer string, conn net.Conn) error {
	own, err := g.holds()
	if err != nil {
		return err
	}
	known := g.known(peer)
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	b := append(make([]byte, 0, greetSize), greetVersion)
	if _, err := conn.Write(known.append(own.append(b))); err != nil {
		return fmt.Errorf("greeting %s: %w", peer, err)
	}
	answer := make([]byte, greetSize)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("greeting of %s: %w", peer, err)
	}
	if answer[0] != greetVersion {
		return fmt.Errorf("greeting of %s is of version %d", peer, answer[0])
	}
	theirs, remembered := decodeHolding(answer[1:]), decodeHolding(answer[1+holdingSize:])
	// What the peer remembers may be younger than what was sent to it: over another
	// connection this node may have acknowledged more since.
	if own, err = g.holds(); err != nil {
		return err
	}
	if err := own.atLeast(remembered); err != nil {
		err = fmt.Errorf("%w: node %s says: %w", ErrRolledBack, peer, err)
		g.rolled(err)
		return err
	}
	if err := theirs.atLeast(known); err != nil {
		return g.refuse(peer, theirs, known, err)
	}
	g.hear(peer, theirs)
	return conn.SetDeadline(time.Time{})
}

// refuse says why the peer is not heard. A greeting may have been written a moment
// before its peer acknowledged what is remembered by now. So the alarm is for one that
// holds less than what was remembered before it can have been written.
func (g *greeter) refuse(peer string, theirs, known holding, why error) error {
	g.mu.Lock()
	owed, again := g.owed[peer]
	again = again && theirs.atLeast(owed.holding) != nil
	if !again {
		g.owed[peer] = debt{known, time.Now()}
	}
	g.mu.Unlock()
	if !again || time.Since(owed.since) < 2*handshakeTimeout {
		return fmt.Errorf("%s holds less than is remembered, or was slow to say what: %w", peer, why)
	}
	g.detected()
	g.log.Error("a peer's disk was rolled back: it is refused", zap.String("peer", peer), zap.Error(why))
	return fmt.Errorf("%s was rolled back: %w", peer, why)
}

// debt is what was remembered of a peer when it was refused first.
type debt struct {
	holding
	since time.Time
}

func (g *greeter) hear(peer string, h holding) {
	h.Index, h.Term = 0, 0 // what it acknowledges counts, not what it says
	g.mu.Lock()
	before := g.heard[peer]
	g.heard[peer] = h
	delete(g.owed, peer)
	g.mu.Unlock()
	if before != h {
		select {
		case g.news <- struct{}{}:
		default:
		}
	}
}

// all returns the present start of every peer that was heard.
func (g *greeter) all() map[string]holding {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := make(map[string]holding, len(g.heard))
	for id, h := range g.heard {
		m[id] = h
	}
	return m
}

// anyNew tells whether a peer has started that is not remembered so.
func (g *greeter) anyNew(known func(id string) holding) bool {
	for id, h := range g.all() {
		if k := known(id); k.Start != h.Start || k.Nonce != h.Nonce {
			return true
		}
	}
	return false
}
