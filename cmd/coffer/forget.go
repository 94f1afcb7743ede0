package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
)

func (a *app) forgetCommand() *cobra.Command {
	var o backup.ForgetOptions
	var within string
	var prune bool
	cmd := &cobra.Command{
		Use:   "forget [SNAPSHOT]...",
		Short: "Remove snapshots: those named, or those that no rule keeps",
		Long: "forget removes snapshots. The rules are those of restic: in each group of one machine, source and set of\n" +
			"paths, --keep-daily 7 keeps the newest snapshot of each of the 7 newest days that have one. What several\n" +
			"rules keep stays if one of them keeps it. The space is free after \"coffer prune\".",
		Example: "  coffer forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n  coffer forget 3fa9c1d2",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Keep.Within, err = parseWithin(within); err != nil {
				return err
			}
			o.IDs = args
			return a.forget(cmd.Context(), o, prune)
		},
	}
	f := cmd.Flags()
	for _, k := range []struct {
		name, what string
		n          *int
	}{
		{"last", "the N newest", &o.Keep.Last}, {"hourly", "one of each of the N newest hours", &o.Keep.Hourly},
		{"daily", "one of each of the N newest days", &o.Keep.Daily}, {"weekly", "one of each of the N newest weeks", &o.Keep.Weekly},
		{"monthly", "one of each of the N newest months", &o.Keep.Monthly}, {"yearly", "one of each of the N newest years", &o.Keep.Yearly},
	} {
		f.IntVar(k.n, "keep-"+k.name, 0, "keep "+k.what)
	}
	f.StringVar(&within, "keep-within", "", "keep what is younger than this, as 1y5m7d2h, seen from the newest")
	f.StringArrayVar(&o.Keep.Tags, "keep-tag", nil, "keep those with this tag")
	f.StringVar(&o.Host, "host", "", "only snapshots of this machine")
	f.StringVar(&o.Source, "source", "", "only snapshots of this source")
	f.BoolVarP(&o.DryRun, "dry-run", "n", false, "remove nothing; say what would be")
	f.BoolVar(&prune, "prune", false, "prune afterwards")
	return cmd
}

// parseWithin reads restic's durations: numbers with y, m, d and h, in this order.
func parseWithin(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	var sum time.Duration
	rest := s
	for _, u := range []struct {
		unit string
		is   time.Duration
	}{{"y", 365 * day}, {"m", 30 * day}, {"d", day}, {"h", time.Hour}} {
		digits, after, ok := strings.Cut(rest, u.unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n > 1000 && u.is > 30*day {
			return 0, usagef("--keep-within %q: not as 1y5m7d2h", s)
		}
		sum += time.Duration(n) * u.is
		rest = after
	}
	if rest != "" {
		return 0, usagef("--keep-within %q: not as 1y5m7d2h", s)
	}
	return sum, nil
}

func (a *app) forget(ctx context.Context, o backup.ForgetOptions, prune bool) error {
	k := o.Keep
	for _, n := range []int{k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly} {
		if n < 0 {
			return usagef("a rule keeps %d snapshots", n)
		}
	}
	if k.Last+k.Hourly+k.Daily+k.Weekly+k.Monthly+k.Yearly == 0 && k.Within == 0 && len(k.Tags) == 0 {
		if len(o.IDs) == 0 {
			return hint(usagef("nothing says what to keep"), "give --keep-daily 7 and the like, or the snapshots to remove")
		}
	} else if len(o.IDs) > 0 {
		return usagef("either snapshots to remove, or rules what to keep")
	}
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	r, err := repo.Forget(ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		err = a.printForget(r, o.DryRun)
	}
	if err != nil || !prune {
		return err
	}
	return a.runPrune(ctx, repo, backup.PruneOptions{DryRun: o.DryRun})
}

func (a *app) printForget(r backup.ForgetReport, dry bool) error {
	verb := "removed"
	if dry {
		verb = "would be removed"
	}
	for _, s := range r.Kept {
		if why := r.Reasons[s.ID]; len(why) > 0 {
			fmt.Fprintf(a.out, "keep    %.8s  %s  %s  %s  (%s)\n", s.ID, s.Time.Local().Format(time.DateTime), printable(s.Host), printable(s.Source), strings.Join(why, ", "))
		}
	}
	for _, s := range r.Removed {
		fmt.Fprintf(a.out, "remove  %.8s  %s  %s  %s\n", s.ID, s.Time.Local().Format(time.DateTime), printable(s.Host), printable(s.Source))
	}
	_, err := fmt.Fprintf(a.out, "%s %s, %s\n", count(len(r.Removed), "snapshot"), verb, stay(len(r.Kept)))
	return err
}

// stay says how many are kept.
func stay(n int) string {
	if n == 1 {
		return "1 stays"
	}
	return fmt.Sprintf("%d stay", n)
}

func (a *app) pruneCommand() *cobra.Command {
	var o backup.PruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Free the space that no snapshot needs",
		Long: "prune marks what no snapshot needs, and removes what an earlier run has marked more than --grace ago. So\n" +
			"backups may run meanwhile, here and on other machines. --dry-run shows what it would cost.",
		Args: atMost(0, "prune takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.MaxUnused < 0 || o.MaxUnused > 1 || o.Grace < 0 {
				return usagef("--max-unused is from 0 to 1, and --grace no less than 0")
			}
			_, repo, err := a.openRepo(cmd.Context())
			if err != nil {
				return err
			}
			return a.runPrune(cmd.Context(), repo, o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Grace, "grace", 0, "time between marking and removing; longer than any backup takes (default 72h)")
	f.Float64Var(&o.MaxUnused, "max-unused", 0, "rewrite a pack of which more than this part is not needed (default 0.2)")
	f.BoolVarP(&o.DryRun, "dry-run", "n", false, "change nothing; say what would be done, and what it costs")
	return cmd
}

func (a *app) runPrune(ctx context.Context, repo *backup.Repo, o backup.PruneOptions) error {
	m := a.meter("prune")
	o.Progress = m.update
	r, err := repo.Prune(ctx, o)
	m.stop()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	did, will := "", "will be"
	if o.DryRun {
		did, will = "would be ", "would be"
	}
	_, err = fmt.Fprintf(a.out, "%s, %s, %sremoved now; %s, %s, %s removed after the grace time\n"+
		"%s %swritten again without what is not needed: %s to upload; %s\n",
		count(r.Removed, "pack"), human.Size(r.RemovedBytes), did, count(r.Marked, "pack"), human.Size(r.MarkedBytes), will,
		count(r.Rewritten, "pack"), did, human.Size(r.Uploaded), stay(r.Kept))
	if l := r.Locks; err == nil && l != (backup.Relocked{}) {
		_, err = fmt.Fprintf(a.out, "%s locked anew; %s, %s, removed but still locked: the storage frees them by its lifecycle rule\n",
			count(l.Extended, "object"), count(l.Hidden, "object"), human.Size(l.HiddenBytes))
	}
	return err
}
