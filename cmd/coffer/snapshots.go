package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
)

func (a *app) snapshotsCommand() *cobra.Command {
	var source, host string
	cmd := &cobra.Command{
		Use:   "snapshots",
		Short: "List the snapshots, oldest first",
		Args:  atMost(0, "snapshots takes flags only"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.snapshots(cmd.Context(), source, host) },
	}
	cmd.Flags().StringVar(&source, "source", "", "only those of this source")
	cmd.Flags().StringVar(&host, "host", "", "only those of this machine")
	return cmd
}

func (a *app) snapshots(ctx context.Context, source, host string) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	all, unreadable := repo.Snapshots(ctx) // those that can be read are listed whatever is wrong with others
	list := []*backup.Snapshot{}
	for _, s := range all {
		if (source == "" || s.Source == source) && (host == "" || s.Host == host) {
			list = append(list, s)
		}
	}
	if a.json {
		err = a.printJSON(list)
	} else {
		err = a.printSnapshots(list)
	}
	if err != nil {
		return err
	}
	return unreadable
}

func (a *app) printSnapshots(list []*backup.Snapshot) error {
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
			s.Stats.Files, size(s.Stats.Bytes), size(s.Stats.Uploaded), printable(note))
	}
	return t.Flush()
}
