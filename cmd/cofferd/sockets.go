package main

import (
	"context"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"coffer/internal/config"
)

// sockets are the listeners that are open before anything runs, so that no
// request is lost while it starts.
type sockets struct {
	control net.Listener // from systemd; nil: the daemon opens its own
	s3      net.Listener // nil: there is no gateway
}

// openSockets takes the sockets that systemd passed by the names "control" and
// "s3", and opens that of the gateway when it did not.
func openSockets(ctx context.Context, c *config.User) (sockets, error) {
	var s sockets
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return s, fmt.Errorf("sockets from systemd: %w", err)
	}
	for name, listeners := range passed {
		switch {
		case len(listeners) != 1:
			return s, fmt.Errorf("sockets from systemd: %d are named %q", len(listeners), name)
		case name == "control":
			s.control = listeners[0]
		case name == "s3":
			s.s3 = listeners[0]
		default:
			return s, fmt.Errorf("sockets from systemd: name %q is neither control nor s3", name)
		}
	}
	if s.s3 == nil && c.Gateway.Listen != "" {
		var lc net.ListenConfig
		if s.s3, err = lc.Listen(ctx, "tcp", c.Gateway.Listen); err != nil {
			return s, fmt.Errorf("gateway: %w", err)
		}
	}
	return s, nil
}
