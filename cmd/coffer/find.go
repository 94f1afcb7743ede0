package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
	"coffer/upstream"
)

func (a *app) findCommand() *cobra.Command {
	var source, host, snapshot string
	cmd := &cobra.Command{
		Use:     "find PATTERN",
		Short:   "Look for files in all snapshots",
		Long:    "find lists each path that a pattern, as in .gitignore, fits, in all snapshots or in some, the newest first.",
		Example: "  coffer find '*.pdf'\n  coffer find '/letters/2024*' --source docs",
		Args:    exactly(1, "find takes PATTERN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.find(cmd.Context(), args[0], snapshot, source, host)
		},
	}
	f := cmd.Flags()
	f.StringVar(&source, "source", "", "only in snapshots of this source")
	f.StringVar(&host, "host", "", "only in snapshots of this machine")
	f.StringVar(&snapshot, "snapshot", "", "only in this snapshot")
	return cmd
}

// found is one line of "find --json".
type found struct {
	Snapshot string    `json:"snapshot"`
	Time     time.Time `json:"time"`
	listed
}

func (a *app) find(ctx context.Context, pattern, snapshot, source, host string) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	in, unreadable, err := a.searched(ctx, repo, snapshot, source, host)
	if err != nil {
		return err
	}
	n := 0
	if len(in) > 0 { // none would mean all
		err = repo.Search(ctx, pattern, in, func(s *backup.Snapshot, path string, e backup.Entry) error {
			n++
			if a.json {
				return json.NewEncoder(a.out).Encode(found{s.ID, s.Time, listed{path, e}})
			}
			_, err := fmt.Fprintf(a.out, "%.8s  %s  %10s  %s\n", s.ID, s.Time.Local().Format(time.DateTime), human.Size(e.Size), printable(path))
			return err
		})
	}
	if err == nil && n == 0 {
		a.say("Nothing of that name in %s.", count(len(in), "snapshot"))
	}
	return errors.Join(err, unreadable)
}

// searched are the snapshots to look into, the newest first; unreadable is the error of
// those that cannot be read.
func (a *app) searched(ctx context.Context, repo *backup.Repo, id, source, host string) (in []*backup.Snapshot, unreadable, err error) {
	if id != "" {
		s, _, err := findSnapshot(ctx, repo, id, source)
		return []*backup.Snapshot{s}, nil, err
	}
	all, unreadable := repo.Snapshots(ctx)
	for i := len(all) - 1; i >= 0; i-- {
		if s := all[i]; (source == "" || s.Source == source) && (host == "" || s.Host == host) {
			in = append(in, s)
		}
	}
	return in, unreadable, nil
}

func (a *app) diffCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "diff FROM[:PATH] TO",
		Short: "Say what changed between two snapshots",
		Long: "diff lists what changed from one snapshot to another: + added, - removed, M content, U only attributes,\n" +
			"T of another type.",
		Example: "  coffer diff 3fa9c1d2 latest",
		Args:    exactly(2, "diff takes FROM[:PATH] and TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.diff(cmd.Context(), args[0], args[1], source)
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "of which source the newest snapshot is meant")
	return cmd
}

var changeMarks = map[string]string{"added": "+", "removed": "-", "content": "M", "metadata": "U", "type": "T"}

func (a *app) diff(ctx context.Context, from, to, source string) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	old, path, err := findSnapshot(ctx, repo, from, source)
	if err != nil {
		return err
	}
	next, extra, err := findSnapshot(ctx, repo, to, source)
	if err != nil {
		return err
	}
	if extra != "" && extra != path {
		return usagef("the path is that of the first snapshot: %q", to)
	}
	return repo.Diff(ctx, old, next, path, func(c backup.Change) error {
		if a.json {
			return json.NewEncoder(a.out).Encode(c)
		}
		mark := changeMarks[c.Kind]
		if mark == "" {
			mark = "?"
		}
		_, err := fmt.Fprintf(a.out, "%s  %s\n", mark, printable(c.Path))
		return err
	})
}

func (a *app) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Say how much there is, how much of it is stored, and what that costs", Args: atMost(0, "stats takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.stats(cmd.Context()) },
	}
}

func (a *app) stats(ctx context.Context) error {
	u, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	s := statistics{Requests: []upstream.Requests{}}
	if s.Stats, err = repo.Stats(ctx); err != nil {
		return err
	}
	requests, err := upstream.ReadTallies(tallies(u))
	if err != nil {
		return err
	}
	s.Requests = append(s.Requests, requests...)
	s.Costs = estimate(u, s.Stats, requests, time.Now())
	if a.json {
		return a.printJSON(s)
	}
	ratio := ""
	if s.Stored < s.Logical {
		ratio = fmt.Sprintf(", %.1f %% of all", 100*float64(s.Stored)/float64(s.Logical))
	}
	if _, err := fmt.Fprintf(a.out, "%s with files of %s in all\n%s without what is there twice: %s\n%s stored%s: %s, %s\n",
		count(s.Snapshots, "snapshot"), human.Size(s.Logical), human.Size(s.Plain), count(s.Chunks, "chunk"), human.Size(s.Stored), ratio, count(s.Packs, "pack"), count(s.Indexes, "index object")); err != nil {
		return err
	}
	return a.printCosts(s)
}
