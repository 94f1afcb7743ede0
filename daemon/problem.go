package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Problem is something that does not mend itself.
type Problem struct {
	ID      string    `json:"id"`               // as "overdue:docs"; the same for as long as it lasts
	Kind    string    `json:"kind"`             // "overdue", "failing", "unreadable", "watch", "task", "locked" or "config"
	Source  string    `json:"source,omitempty"` //
	Task    string    `json:"task,omitempty"`   //
	Since   time.Time `json:"since"`
	Text    string    `json:"text"`           // may hold names
	General string    `json:"general"`        // the same without names
	Hint    string    `json:"hint,omitempty"` // a command, or what to do
}

// Change says what has become of problems.
type Change string

// What a [Notice] tells.
const (
	Began    Change = "problem"
	Solved   Change = "solved"
	Reminder Change = "reminder" // they still last
)

// Notice is news for the user.
type Notice struct {
	Change   Change
	Problems []Problem
}

const (
	fewFailures  = 3                // in a row are weather
	problemCheck = 30 * time.Second // how often it is looked for problems
	chance       = time.Hour        // to save something, after a start or sleep, before it is overdue
)

// known is what the journal keeps of a problem.
type known struct {
	Problem Problem `json:"problem"`
	Since   reading `json:"since"`
	Told    reading `json:"told,omitzero"` // when the user last heard of it
	Gone    reading `json:"gone,omitzero"` // when it was first not there any more
}

// problems looks for what is wrong in st. Since is not set.
func (d *Daemon) problems(st *Status, now time.Time) []Problem {
	var all []Problem
	add := func(p Problem) {
		p.ID = p.Kind
		if about := p.Source + p.Task; about != "" {
			p.ID += ":" + about
		}
		all = append(all, p)
	}
	if st.Locked && len(st.Sources) > 0 {
		add(Problem{Kind: "locked", Text: "the backup key is not in memory: nothing is backed up", General: "the backup key is not in memory: nothing is backed up",
			Hint: `"coffer status" says how the key is kept`})
	}
	if st.Config.Error != "" {
		add(Problem{Kind: "config", Text: "the configuration has a fault, the one before is in force: " + st.Config.Error,
			General: "the configuration has a fault, the one before is in force", Hint: "coffer config check"})
	}
	for _, s := range st.Sources {
		for _, p := range sourceProblems(&s) {
			add(p)
		}
	}
	for _, p := range d.overdue(now) {
		add(p)
	}
	for _, t := range st.Tasks {
		if t.Lasting || t.Failures >= fewFailures {
			add(Problem{Kind: "task", Task: t.Name, Text: fmt.Sprintf("%s: %s", t.Name, t.Error), General: "the maintenance of the backup has found a problem or fails: " + t.Name, Hint: t.Hint})
		}
	}
	return all
}

func sourceProblems(s *SourceStatus) (all []Problem) {
	if s.Lasting || s.Failures >= fewFailures {
		p := Problem{Kind: "failing", Source: s.Name, General: "backups of a source fail", Hint: s.Hint, Text: fmt.Sprintf("source %s: %s", s.Name, s.LastError)}
		if s.Failures >= fewFailures {
			p.Text = fmt.Sprintf("source %s: the last %d backups failed: %s", s.Name, s.Failures, s.LastError)
		}
		all = append(all, p)
	}
	if s.Unreadable > 0 {
		all = append(all, Problem{Kind: "unreadable", Source: s.Name, General: "files of a source cannot be read",
			Text: fmt.Sprintf("source %s: %d files cannot be read", s.Name, s.Unreadable), Hint: "make them readable, or exclude them; the daemon's log names them"})
	}
	if s.Watch.Mode == "limited" || s.Watch.Mode == "failed" && s.Failures == 0 {
		all = append(all, Problem{Kind: "watch", Source: s.Name, General: "a source is not watched in full, only scanned",
			Text: fmt.Sprintf("source %s is not watched in full, only scanned: %s", s.Name, s.Watch.Error), Hint: s.Watch.Hint})
	}
	return all
}

// overdue finds the sources that were not saved for longer than they may. A
// machine that was off or slept has its chance first.
func (d *Daemon) overdue(now time.Time) (all []Problem) {
	sources, _ := d.find(nil)
	for _, s := range sources {
		s.mu.Lock()
		saved, limit := s.record.LastSaved, s.c.Overdue
		if saved.IsZero() {
			saved = s.record.Since
		}
		s.mu.Unlock()
		if limit <= 0 || now.Sub(saved) < limit || d.awake() < min(chance, limit) {
			continue
		}
		all = append(all, Problem{Kind: "overdue", Source: s.c.Name, General: "a source has not been backed up for longer than it may",
			Text: fmt.Sprintf("source %s has not been backed up for %s", s.c.Name, long(now.Sub(saved))), Hint: "coffer backup " + s.c.Name})
	}
	return all
}

// long is a duration for people.
func long(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.Round(time.Second).String()
}

// watchProblems tells Notify of problems that begin, last and end.
func (d *Daemon) watchProblems(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.nextLook()):
			d.lookForProblems()
		}
	}
}

// nextLook is how long to wait before it is looked for problems: no longer than
// one must last before it is told.
func (d *Daemon) nextLook() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return min(max(d.c.Notices.After, time.Second), problemCheck)
}

// lookForProblems compares what is wrong with what was known.
func (d *Daemon) lookForProblems() {
	st := d.Status()
	now := d.clocks()
	d.mu.Lock()
	policy := d.c.Notices
	d.mu.Unlock()
	news, changed := d.journal.note(st.Problems, now, policy)
	if changed {
		d.journal.save()
	}
	for _, change := range []Change{Began, Solved, Reminder} {
		about := news[change]
		if len(about) == 0 {
			continue
		}
		for _, p := range about {
			d.log.Warn(string(change), zap.String("problem", p.ID), zap.String("text", p.Text), zap.String("hint", p.Hint))
			d.events.publish(Event{Kind: ProblemNews, Source: p.Source, Task: p.Task, Result: string(change), Error: p.Text, Hint: p.Hint})
		}
		if d.c.Notify != nil {
			d.c.Notify(Notice{change, about})
		}
	}
}

// Delivery is how a test of a way to tell people went.
type Delivery struct {
	Channel string `json:"channel"`         // "webhook", "mail" or "desktop"
	Error   string `json:"error,omitempty"` // "": it was taken
}

// TestNotify sends a test to everybody who is told of problems.
func (d *Daemon) TestNotify(ctx context.Context) []Delivery {
	if d.c.TestNotify == nil {
		return []Delivery{}
	}
	return append([]Delivery{}, d.c.TestNotify(ctx)...)
}

// Notices says when problems are told. The zero value tells at once, and never
// reminds.
type Notices struct {
	After  time.Duration // a problem is told when it has lasted so long, its end when it stayed away so long
	Remind time.Duration // and again each time it has lasted so long; 0: never
}

// note brings what is known up to date and says what is news.
func (j *journal) note(found []Problem, now reading, policy Notices) (news map[Change][]Problem, changed bool) {
	news = make(map[Change][]Problem)
	j.mu.Lock()
	defer j.mu.Unlock()
	here := make(map[string]bool)
	for _, p := range found {
		here[p.ID] = true
		k, old := j.c.Problems[p.ID]
		if !old {
			k.Since, changed = now, true
		}
		p.Since = k.Since.Wall
		k.Problem = p
		if !k.Gone.Wall.IsZero() {
			k.Gone, changed = reading{}, true
		}
		switch {
		case k.Told.Wall.IsZero() && now.since(k.Since) >= policy.After:
			news[Began] = append(news[Began], p)
			k.Told, changed = now, true
		case !k.Told.Wall.IsZero() && policy.Remind > 0 && now.since(k.Told) >= policy.Remind:
			news[Reminder] = append(news[Reminder], p)
			k.Told, changed = now, true
		}
		j.c.Problems[p.ID] = k
	}
	for id, k := range j.c.Problems {
		switch {
		case here[id]:
			continue
		case k.Told.Wall.IsZero():
			delete(j.c.Problems, id)
		case k.Gone.Wall.IsZero() && policy.After > 0:
			k.Gone = now
			j.c.Problems[id] = k
		case now.since(k.Gone) >= policy.After:
			news[Solved] = append(news[Solved], k.Problem)
			delete(j.c.Problems, id)
		default:
			continue
		}
		changed = true
	}
	for _, list := range news {
		slices.SortFunc(list, func(a, b Problem) int { return a.Since.Compare(b.Since) })
	}
	return news, changed
}

// since gives each problem the time at which it was first seen.
func (j *journal) since(found []Problem, now time.Time) []Problem {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range found {
		found[i].Since = now
		if k, ok := j.c.Problems[found[i].ID]; ok {
			found[i].Since = k.Since.Wall
		}
	}
	return found
}
