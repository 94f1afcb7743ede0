package main

import (
	"context"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"coffer/internal/config"
)

// listenForClients takes the socket that systemd passed by the name "client", so
// that no request is lost while the node starts, or opens that of the
// configuration when there is none.
func listenForClients(ctx context.Context, c *config.Vault) (net.Listener, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	for name, listeners := range passed {
		if name != "client" || len(listeners) != 1 {
			return nil, &exitError{fmt.Errorf("sockets from systemd: %d are named %q, one named client is wanted", len(listeners), name), exitConfig, ""}
		}
		return listeners[0], nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, hinted(fmt.Errorf("listening for clients: %w", err), "listen is in use, or not this machine's")
	}
	return l, nil
}
