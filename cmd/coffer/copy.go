package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
	"coffer/keyring"
)

func (a *app) copyCommand() *cobra.Command {
	var w where
	var into string
	cmd := &cobra.Command{
		Use:   "copy --upstream WHERE | --into CONFIG",
		Short: "Copy all snapshots to another place, or into another store",
		Long: "copy makes another folder or bucket hold the same snapshots under the same key; what is there already is\n" +
			"not copied again. \"coffer recover\" and all other commands work with the copy. For a place that is to be\n" +
			"kept up to date there is \"coffer target add\". What S3 programs have stored is not copied.\n\n" +
			"With --into it copies into another store, with another key, that \"coffer setup\" has made: everything is\n" +
			"read, cut and encrypted anew. Who opens one of the two cannot open the other, nor see what they share.",
		Example: "  coffer copy --upstream folder:/media/usb/backup\n" +
			"  coffer --config b.toml setup --upstream s3:https://s3.example.org/b --state-dir ~/.local/state/coffer-b --cache-dir ~/.cache/coffer-b\n" +
			"  coffer copy --into b.toml",
		Args: atMost(0, "copy takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case into != "" && w.upstream != "":
				return usagef("either --upstream or --into")
			case into != "":
				return a.copyInto(cmd.Context(), into)
			case w.upstream == "":
				return hint(usagef("missing --upstream"), "--upstream copies what is stored as it is, --into CONFIG into a store with another key")
			}
			return a.copy(cmd.Context(), &w)
		},
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&into, "into", "", "configuration of the store to copy into")
	return cmd
}

// copied is the answer of "copy": one of the two.
type copied struct {
	Copy *backup.CopyReport  `json:"copy,omitempty"` // with --upstream
	Into *backup.BringReport `json:"into,omitempty"` // with --into
}

// copyInto brings all snapshots into the store of another configuration.
func (a *app) copyInto(ctx context.Context, file string) error {
	_, from, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	other := &app{system: a.system, configFile: file, json: a.json}
	u, to, err := other.openRepo(ctx)
	if err != nil {
		return hint(fmt.Errorf("%s: %w", file, err), "--into is the configuration of another store: \"coffer --config FILE setup\" makes one")
	}
	mine, err := a.load()
	if err != nil {
		return err
	}
	if mine.CacheDir == u.CacheDir || mine.StateDir == u.StateDir {
		return hint(usagef("%s has the state or the cache folder of this machine's own store", file), "give the other store its own: --state-dir and --cache-dir of \"coffer setup\"")
	}
	m := a.meter("copy")
	r, err := from.CopyInto(ctx, to, m.update)
	m.stop()
	return a.brought(r, err, "copied", copied{Into: &r})
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
		return err
	}
	if a.json {
		return a.printJSON(copied{Copy: &r})
	}
	_, err = fmt.Fprintf(a.out, "copied: %s, %s; there already: %d\n", count(r.Objects, "object"), human.Size(r.Bytes), r.Present)
	return err
}

func (a *app) repairCommand() *cobra.Command {
	var o backup.RepairOptions
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Save the rest after damage",
		Long: "repair makes what can be restored restorable again after \"coffer check\" found damage: it writes the index\n" +
			"anew for packs that no index describes, and marks packs that are damaged or gone, so that the next backup\n" +
			"stores again what is in them and still in a source. Restore brings back the rest. With --read-data all data\n" +
			"are read, and packs with damage inside are found too.",
		Args: atMost(0, "repair takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.repair(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.ReadData, "read-data", false, "read all data to find what is damaged")
	return cmd
}

func (a *app) repair(ctx context.Context, o backup.RepairOptions) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	m := a.meter("repair")
	o.Progress = m.update
	r, err := repo.Repair(ctx, o)
	m.stop()
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		for _, p := range r.Lost {
			a.warn("error", p.Object, strings.TrimPrefix(p.Err, "reading "+p.Object+": "))
		}
		_, err = fmt.Fprintf(a.out, "damaged index objects replaced: %d; packs described anew: %d; packs that cannot be read: %d; marked, to be stored again: %d\n",
			len(r.Indexes), r.Packs, len(r.Lost), len(r.Again))
	}
	if err == nil && len(r.Lost) > 0 {
		err = hint(errProblems, `"coffer check --read-data" says which files are touched`)
	}
	return err
}
