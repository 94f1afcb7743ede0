package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
)

func (a *app) lsCommand() *cobra.Command {
	var source string
	var long, recursive bool
	cmd := &cobra.Command{
		Use:     "ls [SNAPSHOT][:PATH]",
		Short:   "List what is in a snapshot",
		Long:    "ls lists a directory of a snapshot: of the newest one, or of the one whose id begins with SNAPSHOT.",
		Example: "  coffer ls\n  coffer ls latest:/src -r\n  coffer ls 3fa9c1d2:/etc -l",
		Args:    atMost(1, "ls takes [SNAPSHOT][:PATH]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ls(cmd.Context(), firstArg(args), source, long, recursive)
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "of which source the newest snapshot is meant")
	cmd.Flags().BoolVarP(&long, "long", "l", false, "with mode, owner, size and time")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "with everything below")
	return cmd
}

func firstArg(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// findSnapshot reads "SNAPSHOT:PATH": the snapshot, "latest" if it is left out,
// and the path, "" if it is.
func findSnapshot(ctx context.Context, repo *backup.Repo, arg, source string) (*backup.Snapshot, string, error) {
	id, path, _ := strings.Cut(arg, ":")
	if id == "" {
		id = "latest"
	}
	snap, err := repo.Find(ctx, id, source)
	if errors.Is(err, backup.ErrNoSnapshot) && source != "" {
		err = fmt.Errorf("%w of source %q", err, source)
	}
	return snap, path, err
}

// listed is an entry with its path, as "ls --json" prints it, one a line.
type listed struct {
	Path string `json:"path"`
	backup.Entry
}

func (a *app) ls(ctx context.Context, arg, source string, long, recursive bool) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	snap, path, err := findSnapshot(ctx, repo, arg, source)
	if err != nil {
		return err
	}
	top, err := repo.Stat(ctx, snap, path)
	if err != nil {
		return fmt.Errorf("%.8s:%s: %w", snap.ID, printable(path), err)
	}
	if !recursive {
		dir := "/" + strings.Trim(path, "/")
		if !top.Dir() {
			dir = dir[:strings.LastIndexByte(dir, '/')]
		}
		return repo.List(ctx, snap, path, func(e backup.Entry) error {
			return a.printEntry(strings.TrimSuffix(dir, "/")+"/"+e.Name, e, long)
		})
	}
	begin := true
	return repo.Walk(ctx, snap, path, func(p string, e backup.Entry) error {
		if begin && e.Dir() { // what was asked for is no news
			begin = false
			return nil
		}
		return a.printEntry(p, e, long)
	})
}

func (a *app) printEntry(path string, e backup.Entry, long bool) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(listed{path, e})
	}
	shown := printable(path)
	if e.Dir() {
		shown += "/"
	}
	if !long {
		_, err := fmt.Fprintln(a.out, shown)
		return err
	}
	if e.Target != "" {
		shown += " -> " + printable(e.Target)
	}
	if e.Missing {
		shown += " (content could not be read)"
	}
	_, err := fmt.Fprintf(a.out, "%s %5d %5d %10s %s %s\n", modeString(e), e.UID, e.GID, human.Size(e.Size), e.ModTime.Local().Format(time.DateTime), shown)
	return err
}

// modeString prints type and permissions as ls does.
func modeString(e backup.Entry) string {
	types := map[string]fs.FileMode{"dir": fs.ModeDir, "symlink": fs.ModeSymlink, "fifo": fs.ModeNamedPipe,
		"chardev": fs.ModeDevice | fs.ModeCharDevice, "blockdev": fs.ModeDevice}
	m := types[e.Type] | fs.FileMode(e.Mode&0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if e.Mode&bit != 0 {
			m |= flag
		}
	}
	return m.String()
}
