package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/human"
)

func (a *app) backupCommand() *cobra.Command {
	var s streamFlags
	cmd := &cobra.Command{
		Use:   "backup [SOURCE]... | --stdin | --stdin-from-command -- COMMAND [ARGUMENT]...",
		Short: "Back up now: all sources, those named, or what a program writes",
		Long: "backup has the running daemon back up, or does it itself when none runs or tags are given. A source that\n" +
			"did not change makes no new snapshot, unless with --tag. Exit status 3: saved, but for some files that\n" +
			"could not be read.\n\n" +
			"With --stdin it saves standard input instead, as one file, and with --stdin-from-command what a command\n" +
			"writes. A command that fails makes no snapshot, so prefer it to a pipe, whose end looks like success.",
		Example: "  coffer backup\n  coffer backup docs --tag before-upgrade\n" +
			"  coffer backup --stdin-from-command --stdin-name db.sql -- pg_dump db",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.check(args); err != nil {
				return err
			}
			if s.stdin || s.fromCommand {
				return a.backupStream(cmd.Context(), &s, args)
			}
			return a.backup(cmd.Context(), args, s.tags)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&s.stdin, "stdin", false, "save standard input")
	f.BoolVar(&s.fromCommand, "stdin-from-command", false, "save what the command that follows -- writes")
	f.StringVar(&s.name, "stdin-name", "", "name of the file in the snapshot, and of the source")
	f.StringArrayVar(&s.tags, "tag", nil, "word to find the snapshot by; several flags for several")
	return cmd
}

// saved is the outcome of one source.
type saved struct {
	Source   string         `json:"source"`
	Snapshot string         `json:"snapshot,omitempty"`
	Took     time.Duration  `json:"took"` // ns
	Error    string         `json:"error,omitempty"`
	Report   *backup.Report `json:"report,omitempty"`
}

func (a *app) backup(ctx context.Context, names, tags []string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	sources, err := chosen(u, names)
	if err != nil {
		return err
	}
	var results []saved
	if err = daemon.ErrNotRunning; len(tags) == 0 {
		results, err = a.backupByDaemon(ctx, u, names)
	}
	if errors.Is(err, daemon.ErrNotRunning) {
		results, err = a.backupHere(ctx, u, sources, tags)
	}
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	return a.reportBackups(results)
}

// chosen are the sources named, all if none is.
func chosen(u *config.User, names []string) ([]config.Source, error) {
	if len(u.Sources) == 0 {
		return nil, hint(usagef("no source is configured"), "add a [[source]] to the configuration")
	}
	if len(names) == 0 {
		return u.Sources, nil
	}
	var all []config.Source
	for _, n := range names {
		i := slices.IndexFunc(u.Sources, func(s config.Source) bool { return s.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("source %q: %w", n, daemon.ErrUnknownSource)
		}
		all = append(all, u.Sources[i])
	}
	return all, nil
}

// backupByDaemon has the daemon do it, and shows what it tells.
func (a *app) backupByDaemon(ctx context.Context, u *config.User, names []string) ([]saved, error) {
	meters := make(map[string]*meter)
	defer func() {
		for _, m := range meters {
			m.stop()
		}
	}()
	events, err := daemon.NewClient(u.Control).Backup(ctx, names, func(e daemon.Event) {
		switch m := meters[e.Source]; {
		case e.Kind == daemon.Progress && m == nil && len(meters) == 0: // one bar at a time
			meters[e.Source] = a.meter(e.Source)
		case e.Kind == daemon.Progress && m != nil && e.Progress != nil:
			m.update(*e.Progress)
		case e.Kind == daemon.Saved || e.Kind == daemon.Failed || e.Kind == daemon.Stopped:
			if m != nil {
				m.stop()
				delete(meters, e.Source)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var all []saved
	for _, e := range events {
		all = append(all, saved{e.Source, e.Snapshot, e.Took, e.Error, e.Report})
	}
	return all, nil
}

// backupHere does it in this process.
func (a *app) backupHere(ctx context.Context, u *config.User, sources []config.Source, tags []string) ([]saved, error) {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return nil, err
	}
	var all []saved
	for _, s := range sources {
		began := time.Now()
		m := a.meter(s.Name)
		o := backupOptions(u, s)
		o.Tags, o.SkipUnchanged = append(o.Tags, tags...), len(tags) == 0
		o.Progress = m.update
		snap, report, err := repo.Backup(ctx, o)
		m.stop()
		if err != nil {
			return nil, err
		}
		all = append(all, saved{Source: s.Name, Snapshot: snap.ID, Took: time.Since(began), Report: &report})
	}
	return all, nil
}

// backupOptions is what the daemon would ask for.
func backupOptions(u *config.User, s config.Source) backup.BackupOptions {
	exclude := slices.Clone(s.Exclude)
	private := []string{u.StateDir, u.CacheDir}
	for _, up := range u.Upstreams {
		private = append(private, up.Path)
	}
	for _, p := range private { // last: no pattern brings back what changes with each backup
		if rel, err := filepath.Rel(s.Path, p); p != "" && err == nil && filepath.IsLocal(rel) && rel != "." {
			exclude = append(exclude, "/"+strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, ` `, `\ `).Replace(rel))
		}
	}
	return backup.BackupOptions{
		Source: s.Name, Paths: []string{s.Path}, Host: u.Host, Tags: s.Tags, Exclude: exclude,
		ExcludeLarger: int64(s.ExcludeLarger), ExcludeCaches: s.ExcludeCaches, OneFileSystem: s.OneFileSystem, SkipUnchanged: true,
	}
}

// reportBackups tells people what came of it, and everybody by the exit status.
func (a *app) reportBackups(results []saved) error {
	var failed, incomplete error
	for _, r := range results {
		if r.Error != "" {
			failed = fmt.Errorf("backing up %s: %s", r.Source, r.Error)
			a.say("coffer: %s: %s", r.Source, printable(r.Error))
			continue
		}
		if r.Report != nil && len(r.Report.Failed) > 0 {
			incomplete = errIncomplete
			if !a.json {
				a.fileErrors(*r.Report)
			}
		}
		if !a.json {
			if err := a.printSaved(r); err != nil {
				return err
			}
		}
	}
	if failed != nil {
		return failed
	}
	return incomplete
}

func (a *app) printSaved(r saved) error {
	line := fmt.Sprintf("%s: snapshot %.8s", r.Source, r.Snapshot)
	if p := r.Report; p != nil {
		line += fmt.Sprintf(", %s, %s; %d new, %d changed, %s uploaded in %v",
			count(p.Files, "file"), human.Size(p.Bytes), p.New, p.Changed, human.Size(p.Uploaded), r.Took.Round(100*time.Millisecond))
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

// maxFileErrors bounds the lines about files.
const maxFileErrors = 100

// fileErrors tells which files were not done, or not in full.
func (a *app) fileErrors(r backup.Report) {
	for i, f := range r.Failed {
		if i == maxFileErrors {
			a.say("coffer: error: ... and %d more", len(r.Failed)-i)
			break
		}
		a.warn("error", f.Path, f.Err)
	}
	for i, f := range r.Warnings {
		if i == maxFileErrors {
			a.say("coffer: warning: ... and %d more", len(r.Warnings)-i)
			break
		}
		a.warn("warning", f.Path, f.Err)
	}
}
