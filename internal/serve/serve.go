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
	"time"
)

// HTTP serves on l until ctx ends, gives the requests under way the time drain
// to finish, breaks the others off, and returns nil. It closes l. Requests see
// a context that outlives ctx while they drain; s.BaseContext is replaced.
func HTTP(ctx context.Context, l net.Listener, s *http.Server, drain time.Duration) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.BaseContext = func(net.Listener) context.Context { return base }
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(base, drain)
	defer cancel()
	err := s.Shutdown(limit)
	cut()
	if err != nil { // time is over
		err = s.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
