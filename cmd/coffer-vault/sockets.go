package main

import (
	"context"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/net/netutil"

	"coffer/internal/config"
)

// maxConnections bounds what clients can take of the memory: some 33 KB each while
// they are idle. More wait until one ends.
const maxConnections = 4096

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
		return netutil.LimitListener(listeners[0], maxConnections), nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, hinted(fmt.Errorf("listening for clients: %w", err), "listen is in use, or not this machine's")
	}
	return netutil.LimitListener(l, maxConnections), nil
}
