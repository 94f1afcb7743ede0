package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Keep says which snapshots of a group are kept: those that any of its rules
// keeps. A rule such as Daily: 7 keeps the newest snapshot of each of the last 7
// days that have one. Days begin at midnight of Location.
type Keep struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int

	Within   time.Duration  // younger than this, counted from the group's newest
	Tags     []string       // with any of these tags
	Location *time.Location // nil: local
}

// Empty says that no rule is set, which as a policy keeps everything.
func (k *Keep) Empty() bool {
	return k.Last+k.Hourly+k.Daily+k.Weekly+k.Monthly+k.Yearly == 0 && k.Within == 0 && len(k.Tags) == 0
}

// ForgetOptions say which snapshots to forget: those that Keep does not keep, in
// each group of the same host, source and paths; or those of IDs alone.
type ForgetOptions struct {
	Keep   Keep
	IDs    []string // beginnings of ids; Keep is not looked at
	Host   string   // only snapshots of this host
	Source string   // only snapshots of this source
	DryRun bool
}

// ForgetReport lists what was, or would be, kept and removed.
type ForgetReport struct {
	Kept    []*Snapshot         `json:"kept"`
	Removed []*Snapshot         `json:"removed"`
	Reasons map[string][]string `json:"reasons"` // by ID: the rules that keep it
}

// Forget removes snapshots. Their data stays until Prune.
func (r *Repo) Forget(ctx context.Context, o ForgetOptions) (ForgetReport, error) {
	rep := ForgetReport{Reasons: make(map[string][]string)}
	if o.Keep.Empty() && len(o.IDs) == 0 {
		return rep, errors.New("forgetting: no rule says what to keep")
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return rep, fmt.Errorf("forgetting: %w", err)
	}
	if len(o.IDs) > 0 {
		if err = rep.byID(all, o.IDs); err != nil {
			err = fmt.Errorf("forgetting: %w", err)
		}
	} else {
		rep.byRules(all, &o)
	}
	if err != nil || o.DryRun || len(rep.Removed) == 0 {
		return rep, err
	}
	// The head first: a snapshot that is gone and was not said to be looks as if
	// the storage had taken it.
	if err := r.publishHead(ctx, rep.Kept, rep.Removed); err != nil {
		return rep, fmt.Errorf("forgetting: %w", err)
	}
	for _, s := range rep.Removed {
		if err := r.removeSnapshots(ctx, append(s.replaced, s.ID)); err != nil {
			return rep, fmt.Errorf("forgetting: %w", err)
		}
	}
	return rep, nil
}

func (rep *ForgetReport) byID(all []*Snapshot, ids []string) error {
	hit := make(map[string]bool)
	for _, id := range ids {
		n := 0
		for _, s := range all {
			if id != "" && strings.HasPrefix(s.ID, id) {
				hit[s.ID] = true
				n++
			}
		}
		switch {
		case n == 0:
			return fmt.Errorf("%q: %w", id, ErrNoSnapshot)
		case n > 1:
			return fmt.Errorf("%q: %w", id, ErrAmbiguous)
		}
	}
	for _, s := range all {
		if hit[s.ID] {
			rep.Removed = append(rep.Removed, s)
		} else {
			rep.Kept = append(rep.Kept, s)
		}
	}
	return nil
}

func (rep *ForgetReport) byRules(all []*Snapshot, o *ForgetOptions) {
	groups := make(map[string][]*Snapshot)
	for _, s := range all {
		if o.Host != "" && s.Host != o.Host || o.Source != "" && s.Source != o.Source {
			rep.Kept = append(rep.Kept, s)
			continue
		}
		key := strings.Join(append([]string{s.Host, s.Source}, s.Paths...), "\x00")
		groups[key] = append(groups[key], s)
	}
	for _, g := range groups {
		o.Keep.reasons(g, rep.Reasons)
		for _, s := range g {
			if len(rep.Reasons[s.ID]) > 0 {
				rep.Kept = append(rep.Kept, s)
			} else {
				rep.Removed = append(rep.Removed, s)
			}
		}
	}
	byTime := func(a, b *Snapshot) int { return a.Time.Compare(b.Time) }
	slices.SortFunc(rep.Kept, byTime)
	slices.SortFunc(rep.Removed, byTime)
}

// reasons adds, for each snapshot of a group that is ordered by time, the rules
// that keep it.
func (k *Keep) reasons(group []*Snapshot, out map[string][]string) {
	loc := k.Location
	if loc == nil {
		loc = time.Local
	}
	keep := func(s *Snapshot, why string) { out[s.ID] = append(out[s.ID], why) }
	newest := group[len(group)-1].Time
	for _, s := range group {
		if k.Within > 0 && newest.Sub(s.Time) < k.Within {
			keep(s, "within")
		}
		for _, t := range k.Tags {
			if slices.Contains(s.Tags, t) {
				keep(s, "tag "+t)
			}
		}
	}
	for _, rule := range []struct {
		name  string
		count int
		slot  func(time.Time) string
	}{
		{"last", k.Last, func(t time.Time) string { return t.Format(time.RFC3339Nano) }},
		{"hourly", k.Hourly, func(t time.Time) string { return t.Format("2006-01-02T15 -0700") }},
		{"daily", k.Daily, func(t time.Time) string { return t.Format("2006-01-02") }},
		{"weekly", k.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, w) }},
		{"monthly", k.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
		{"yearly", k.Yearly, func(t time.Time) string { return t.Format("2006") }},
	} {
		left, last := rule.count, ""
		for _, s := range slices.Backward(group) {
			slot := rule.slot(s.Time.In(loc))
			if rule.name == "last" {
				slot = s.ID
			}
			if left > 0 && slot != last {
				keep(s, rule.name)
				left, last = left-1, slot
			}
		}
	}
}
