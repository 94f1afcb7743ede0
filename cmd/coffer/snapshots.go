package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
)

func (a *app) snapshotsCommand() *cobra.Command {
	var source, host string
	var tags []string
	cmd := &cobra.Command{
		Use:   "snapshots",
		Short: "List the snapshots, oldest first",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return hint(usagef("unexpected argument %q: snapshots takes flags only", args[0]), fmt.Sprintf("of one source: --source %s; what is in a snapshot: \"coffer ls %s\"", args[0], args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.snapshots(cmd.Context(), source, host, tags) },
	}
	cmd.Flags().StringVar(&source, "source", "", "only those of this source")
	cmd.Flags().StringVar(&host, "host", "", "only those of this machine")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "only those with this tag; with several flags, with all of them")
	return cmd
}

func (a *app) snapshots(ctx context.Context, source, host string, tags []string) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	all, unreadable := repo.Snapshots(ctx) // those that can be read are listed whatever is wrong with others
	list := []*backup.Snapshot{}
	for _, s := range all {
		if (source == "" || s.Source == source) && (host == "" || s.Host == host) && hasTags(s, tags) {
			list = append(list, s)
		}
	}
	if a.json {
		err = a.printJSON(list)
	} else {
		err = a.printSnapshots(list, len(all) > 0)
	}
	if err != nil {
		return err
	}
	return unreadable
}

// hasTags says whether s has all of the tags.
func hasTags(s *backup.Snapshot, tags []string) bool {
	return !slices.ContainsFunc(tags, func(t string) bool { return !slices.Contains(s.Tags, t) })
}

func (a *app) printSnapshots(list []*backup.Snapshot, filtered bool) error {
	if len(list) == 0 && filtered {
		a.say("No such snapshot.")
		return nil
	}
	if len(list) == 0 {
		a.say("No snapshots yet.")
		return nil
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTIME\tHOST\tSOURCE\tFILES\tSIZE\tUPLOADED\t")
	for _, s := range list {
		note := strings.Join(s.Tags, ",")
		if s.Partial {
			note += " (incomplete)"
		}
		fmt.Fprintf(t, "%.8s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", s.ID, s.Time.Local().Format(time.DateTime), printable(s.Host), printable(s.Source),
			s.Stats.Files, human.Size(s.Stats.Bytes), human.Size(s.Stats.Uploaded), printable(note))
	}
	return t.Flush()
}
