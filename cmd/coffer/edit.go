package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"coffer/daemon"
	"coffer/internal/config"
)

// applied tells the daemon that the configuration has changed, and the user what
// that takes: sources and access keys the daemon takes over atOnce; for the rest
// it must be started again.
func (a *app) applied(ctx context.Context, u *config.User, atOnce bool) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := daemon.NewClient(u.Control).Status(ctx)
	if errors.Is(err, daemon.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the configuration is written, but asking the daemon: %w", err)
	}
	if !atOnce {
		a.say(`The daemon goes on as before until it is started again: "systemctl --user restart coffer"`)
		return nil
	}
	if err := syscall.Kill(st.PID, syscall.SIGHUP); err != nil {
		return hint(fmt.Errorf("the configuration is written, but telling the daemon: %w", err), "start the daemon again")
	}
	return nil
}
