package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
)

// restoreFlags are the flags of restore.
type restoreFlags struct {
	to, source, overwrite   string
	exclude                 []string
	remove, verify, pretend bool
}

var overwriteModes = map[string]backup.Overwrite{
	"changed": backup.OverwriteChanged, "always": backup.OverwriteAlways, "older": backup.OverwriteOlder, "never": backup.OverwriteNever,
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [SNAPSHOT][:PATH] --to DIR",
		Short: "Write files of a snapshot into a folder",
		Long: "restore writes a snapshot, or what lies at PATH in it, into DIR: of the newest snapshot, or of the one\n" +
			"whose id begins with SNAPSHOT. It needs no daemon. Exit status 3: some files could not be written.",
		Example: "  coffer restore --to /tmp/all\n  coffer restore latest:/letters --to letters --source docs",
		Args:    atMost(1, "restore takes [SNAPSHOT][:PATH]"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.restore(cmd, firstArg(args), &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "folder to write into; it is made if it is not there")
	fl.StringVar(&f.source, "source", "", "of which source the newest snapshot is meant")
	fl.StringVar(&f.overwrite, "overwrite", "changed", "what is there already: changed, always, older or never")
	fl.StringArrayVar(&f.exclude, "exclude", nil, "pattern, as in .gitignore, of what to leave out")
	fl.BoolVar(&f.remove, "delete", false, "remove what is there and not in the snapshot")
	fl.BoolVar(&f.verify, "verify", false, "read everything again afterwards and compare")
	fl.BoolVar(&f.pretend, "dry-run", false, "write nothing")
	return cmd
}

func (a *app) restore(cmd *cobra.Command, arg string, f *restoreFlags) error {
	if err := required(cmd, "to"); err != nil {
		return err
	}
	mode, ok := overwriteModes[f.overwrite]
	if !ok {
		return usagef("--overwrite %q: not changed, always, older or never", f.overwrite)
	}
	ctx := cmd.Context()
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	snap, path, err := findSnapshot(ctx, repo, arg, f.source)
	if err != nil {
		return err
	}
	if _, err := repo.Stat(ctx, snap, path); err != nil { // before a folder is made for nothing
		return fmt.Errorf("%.8s:%s: %w", snap.ID, printable(path), err)
	}
	m := a.meter("restore")
	o := backup.RestoreOptions{
		Snapshot: snap, To: absolute(f.to), Exclude: f.exclude, Overwrite: mode, Delete: f.remove, Verify: f.verify, DryRun: f.pretend, Progress: m.update,
	}
	if path != "" {
		o.Paths, o.Strip = []string{path}, true
	}
	return a.runRestore(ctx, repo, o, m)
}

func (a *app) runRestore(ctx context.Context, repo *backup.Repo, o backup.RestoreOptions, m *meter) error {
	report, err := repo.Restore(ctx, o)
	m.stop()
	if err != nil {
		return fmt.Errorf("restoring snapshot %.8s: %w", o.Snapshot.ID, err)
	}
	if a.json {
		err = a.printJSON(restored{o.Snapshot.ID, o.To, report})
	} else {
		a.fileErrors(report)
		_, err = fmt.Fprintf(a.out, "restored snapshot %.8s of %s to %s: %s, %s in %v\n", o.Snapshot.ID,
			o.Snapshot.Time.Local().Format(time.DateTime), printable(o.To), count(report.Files, "file"), size(report.Bytes), report.Took.Round(100*time.Millisecond))
	}
	if err != nil {
		return err
	}
	if len(report.Failed) > 0 {
		return errIncomplete
	}
	return nil
}
