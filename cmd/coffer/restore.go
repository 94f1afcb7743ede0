package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
)

// restoreFlags are the flags of restore.
type restoreFlags struct {
	to, source, overwrite            string
	exclude                          []string
	inPlace, remove, verify, pretend bool
}

// mode is how what is there is treated; refuse says that nobody said how.
func (f *restoreFlags) mode() (mode backup.Overwrite, refuse bool, err error) {
	if f.overwrite == "" {
		return backup.OverwriteChanged, !f.pretend, nil
	}
	mode, ok := backup.ParseOverwrite(f.overwrite)
	if !ok {
		err = usagef("--overwrite %q: not changed, always, older or never", f.overwrite)
	}
	return mode, false, err
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [SNAPSHOT][:PATH] --to DIR | --in-place",
		Short: "Write files of a snapshot into a folder, or to where they came from",
		Long: "restore writes a snapshot, or what lies at PATH in it: of the newest snapshot, or of the one whose id begins\n" +
			"with SNAPSHOT. It needs no daemon. Exit status 3: some files could not be written.\n\n" +
			"Files that are there already and are the same stay, so a restore that was interrupted goes on when it is\n" +
			"run again. If others would be replaced, it does nothing unless --overwrite says so: changed replaces those\n" +
			"that differ in size or time, older those that are older than in the snapshot, always all, and never keeps\n" +
			"all. --dry-run lists what would be replaced and deleted.",
		Example: "  coffer restore --to /tmp/all\n  coffer restore latest:/letters --to letters --source docs\n" +
			"  coffer restore 3fa9c1d2 --in-place --dry-run",
		Args: atMost(1, "restore takes [SNAPSHOT][:PATH]"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.restore(cmd, firstArg(args), &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "folder to write into; it is made if it is not there")
	fl.BoolVar(&f.inPlace, "in-place", false, "write to where the files were backed up from")
	fl.StringVar(&f.source, "source", "", "of which source the newest snapshot is meant")
	fl.StringVar(&f.overwrite, "overwrite", "", "which files that are there to replace: changed, always, older or never (default: refuse to replace any)")
	fl.StringArrayVar(&f.exclude, "exclude", nil, "pattern, as in .gitignore, of what to leave out")
	fl.BoolVar(&f.remove, "delete", false, "remove what is there and not in the snapshot")
	fl.BoolVar(&f.verify, "verify", false, "read everything again afterwards and compare")
	fl.BoolVarP(&f.pretend, "dry-run", "n", false, "write nothing; list what would be replaced and deleted")
	_ = cmd.MarkFlagDirname("to") // both fail only for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("overwrite", cobra.FixedCompletions([]string{"changed", "older", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) restore(cmd *cobra.Command, arg string, f *restoreFlags) error {
	switch {
	case f.to == "" && !f.inPlace:
		return hint(usagef("missing --to"), "--to DIR writes into a folder, --in-place to where the files came from")
	case f.to != "" && f.inPlace:
		return usagef("either --to or --in-place")
	}
	mode, refuse, err := f.mode()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	u, repo, err := a.openRepo(ctx)
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
	o := backup.RestoreOptions{Snapshot: snap, To: absolute(f.to), Exclude: f.exclude, Overwrite: mode, Delete: f.remove, Verify: f.verify, DryRun: f.pretend}
	if path != "" {
		o.Paths, o.Strip = []string{path}, !f.inPlace
	}
	if f.inPlace {
		if snap.Host != u.Host {
			return hint(fmt.Errorf("snapshot %.8s is of the machine %q, and this is %q", snap.ID, snap.Host, u.Host), "--to DIR writes it into a folder")
		}
		o.To = repo.Place(ctx, snap)
	}
	run := repo.Restore
	if refuse {
		run = repo.RestoreNew
	}
	return a.runRestore(ctx, run, o)
}

func (a *app) runRestore(ctx context.Context, run func(context.Context, backup.RestoreOptions) (backup.Report, error), o backup.RestoreOptions) error {
	m := a.meter("restore")
	o.Progress = m.update
	report, err := run(ctx, o)
	m.stop()
	var replaces *backup.ReplacesError
	if errors.As(err, &replaces) {
		return hint(err, "--overwrite changed replaces them, --overwrite never keeps them, --dry-run lists them")
	}
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(restored{o.Snapshot.ID, o.To, report})
	} else {
		err = a.printRestore(o, report)
	}
	if err != nil {
		return err
	}
	if len(report.Failed) > 0 {
		return errIncomplete
	}
	return nil
}

func (a *app) printRestore(o backup.RestoreOptions, r backup.Report) error {
	a.fileErrors(r)
	verb := "restored"
	if o.DryRun {
		verb = "would restore"
		for _, p := range r.Replaced {
			fmt.Fprintf(a.out, "replace  %s\n", printable(p))
		}
		for _, p := range r.Deleted {
			fmt.Fprintf(a.out, "delete   %s\n", printable(p))
		}
	}
	line := fmt.Sprintf("%s snapshot %.8s of %s to %s: %s, %s", verb, o.Snapshot.ID, o.Snapshot.Time.Local().Format(time.DateTime),
		printable(o.To), count(r.Files, "file"), human.Size(r.Bytes))
	var notes []string
	for _, x := range []struct {
		n    int64
		what string
	}{{r.Unchanged, "there already"}, {int64(len(r.Replaced)), "replaced"}, {int64(len(r.Deleted)), "deleted"}} {
		if x.n > 0 {
			notes = append(notes, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if len(notes) > 0 {
		line += " (" + strings.Join(notes, ", ") + ")"
	}
	if !o.DryRun {
		line += fmt.Sprintf(" in %v", r.Took.Round(100*time.Millisecond))
	}
	if o.Verify && !o.DryRun && len(r.Failed) == 0 {
		line += ", verified"
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}
