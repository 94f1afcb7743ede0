package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/keyring"
)

func (a *app) copyCommand() *cobra.Command {
	var w where
	cmd := &cobra.Command{
		Use:   "copy --upstream WHERE",
		Short: "Copy all snapshots to another place, once",
		Long: "copy makes another folder or bucket hold the same snapshots under the same key; what is there already is\n" +
			"not copied again. \"coffer recover\" and all other commands work with the copy. For a place that is to be\n" +
			"kept up to date there is \"coffer target add\". What S3 programs have stored is not copied.",
		Example: "  coffer copy --upstream folder:/media/usb/backup",
		Args:    atMost(0, "copy takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "upstream"); err != nil {
				return err
			}
			return a.copy(cmd.Context(), &w)
		},
	}
	w.flags(cmd)
	return cmd
}

func (a *app) copy(ctx context.Context, w *where) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return err
	}
	up, err := w.parse()
	if err != nil {
		return err
	}
	from, err := a.openStore(ctx, u)
	if err != nil {
		return err
	}
	to, err := openUpstream(ctx, up, limitsOf(u), true)
	if err != nil {
		return err
	}
	if err := markTarget(ctx, to, ring.Profile()); err != nil {
		return fmt.Errorf("upstream %s: %w", upstreamName(up), err)
	}
	m := a.meter("copy")
	r, err := backup.Copy(ctx, from, to, m.update)
	m.stop()
	if err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	if a.json {
		return a.printJSON(r)
	}
	_, err = fmt.Fprintf(a.out, "copied: %s, %s; there already: %d\n", count(r.Objects, "object"), size(r.Bytes), r.Present)
	return err
}

func (a *app) repairCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "repair",
		Short: "Write the index anew from the packs",
		Long: "repair makes what can be restored restorable again after \"coffer check\" found damage: it writes the index\n" +
			"anew for packs that no index describes. Data that is damaged stays so; restore brings back the rest.",
		Args: atMost(0, "repair takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.repair(cmd.Context()) },
	}
}

func (a *app) repair(ctx context.Context) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	r, err := repo.Repair(ctx)
	if err != nil {
		return fmt.Errorf("repairing: %w", err)
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		for _, p := range r.Lost {
			a.warn("error", p.Object, strings.TrimPrefix(p.Err, "reading "+p.Object+": "))
		}
		_, err = fmt.Fprintf(a.out, "damaged index objects replaced: %d; packs described anew: %d; packs that cannot be read: %d\n", len(r.Indexes), r.Packs, len(r.Lost))
	}
	if err == nil && len(r.Lost) > 0 {
		err = hint(errProblems, `"coffer check --read-data" says which files are touched`)
	}
	return err
}
