// Package serve runs an HTTP server until its context ends, then drains it:
// requests under way are finished, new ones find the socket closed (or, with
// socket activation, wait in it for the next process).
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// newConnGrace is how long a connection may wait with its first request while
// the server drains.
const newConnGrace = time.Second

// HTTP serves on l until ctx ends, gives the requests under way the time drain
// to finish, breaks the others off, and returns nil. It closes l. Requests see
// a context that outlives ctx while they drain; s.BaseContext and s.ConnState
// are replaced.
//
// [http.Server.Shutdown] is not enough: it drops a request that it reads after it
// was called, so that a client which just connected has no answer.
func HTTP(ctx context.Context, l net.Listener, s *http.Server, drain time.Duration) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.BaseContext = func(net.Listener) context.Context { return base }
	conns := &connections{busy: make(map[net.Conn]time.Time), changed: make(chan struct{}, 1)}
	s.ConnState = conns.note
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving on %s: %w", l.Addr(), errors.Join(err, s.Close()))
	case <-ctx.Done():
	}
	if err := l.Close(); err != nil {
		return errors.Join(err, s.Close())
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) { // from here on every connection is noted
		return errors.Join(err, s.Close())
	}
	s.SetKeepAlivesEnabled(false)
	conns.drain(drain)
	cut()
	if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// connections knows those that have, or may soon have, a request.
type connections struct {
	mu      sync.Mutex
	busy    map[net.Conn]time.Time // when it began to wait for its first request; zero: a request is under way
	changed chan struct{}          // holds one
}

func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	switch state {
	case http.StateNew:
		c.busy[conn] = time.Now()
	case http.StateActive:
		c.busy[conn] = time.Time{}
	default:
		delete(c.busy, conn)
	}
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// drain waits until no request is under way or may come, at most for limit.
func (c *connections) drain(limit time.Duration) {
	end := time.NewTimer(limit)
	defer end.Stop()
	grace := time.NewTimer(newConnGrace)
	defer grace.Stop()
	for !c.quiet() {
		select {
		case <-end.C:
			return
		case <-grace.C:
		case <-c.changed:
		}
	}
}

// quiet says whether no connection is worth waiting for.
func (c *connections) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, since := range c.busy {
		if since.IsZero() || time.Since(since) < newConnGrace {
			return false
		}
	}
	return true
}
