package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"coffer/daemon"
)

func (a *app) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pause [DURATION]", Short: "Have the daemon back nothing up for a time, or until it is resumed",
		Long:    "pause stops what is running and begins nothing by itself. Changes are noted, and saved afterwards.",
		Example: "  coffer pause 2h",
		Args:    atMost(1, "pause takes [DURATION]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var length time.Duration
			if len(args) > 0 {
				var err error
				if length, err = time.ParseDuration(args[0]); err != nil || length <= 0 {
					return hint(usagef("%q is no duration", args[0]), "write it as 90m or 2h")
				}
			}
			return a.daemonDo(cmd.Context(), func(ctx context.Context, c *daemon.Client) (daemon.Status, error) { return c.Pause(ctx, length) })
		},
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "End a pause", Args: atMost(0, "resume takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.daemonDo(cmd.Context(), func(ctx context.Context, c *daemon.Client) (daemon.Status, error) { return c.Resume(ctx) })
		},
	}
}

// daemonDo asks the daemon for something and shows the state it is in then.
func (a *app) daemonDo(ctx context.Context, fn func(context.Context, *daemon.Client) (daemon.Status, error)) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	st, err := fn(ctx, daemon.NewClient(u.Control))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(st)
	}
	a.say("The daemon: %s", describeDaemon(&st))
	return nil
}
