package main

import (
	"context"
	"errors"
	"fmt"

	"coffer/daemon"
	"coffer/internal/config"
)

// applied has the daemon, if it runs, take over the configuration that has
// changed, and tells the user what of it takes a restart.
func (a *app) applied(ctx context.Context, u *config.User) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	now, err := daemon.NewClient(u.Control).ReloadConfig(ctx)
	if errors.Is(err, daemon.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return hint(fmt.Errorf("the configuration is written, but telling the daemon: %w", err), "start the daemon again")
	}
	return a.reloaded(now)
}

// reloaded says what the daemon made of the configuration.
func (a *app) reloaded(now daemon.Configured) error {
	if now.Error != "" {
		return hint(fmt.Errorf("the daemon goes on with the configuration before: %s", now.Error), "coffer config check")
	}
	for _, name := range now.Restart {
		a.say("[%s] has changed and needs a restart: systemctl --user restart coffer", name)
	}
	return nil
}
