package daemon

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
)

// scheduleJitter is how much later than scheduled a backup may begin.
const scheduleJitter = 5 * time.Minute

// wallCheck is how often a schedule is compared with the clock on the wall, which
// may be set, and goes on while timers stand still.
const wallCheck = time.Minute

// never is further away than any timer.
const never = 365 * 24 * time.Hour

// source is the state of one [Source] and the goroutine that backs it up.
type source struct {
	d      *Daemon
	c      Source
	ignore ignore
	offset time.Duration // after the times of the schedule, so that many machines do not come together
	wake   chan struct{} // holds one: something that decides when to run has changed

	// mu is held for moments. The watcher notes changes under it, also while a
	// backup runs: those belong to the next one.
	mu      sync.Mutex
	first   time.Time // of the changes not saved; zero: none
	last    time.Time
	scanAt  time.Time // when a scan is due whatever was seen
	asked   []chan<- Event
	cancel  context.CancelCauseFunc // of the running backup; nil: none runs
	byHand  bool                    // it was asked for
	current *backup.Progress        // of the running backup; nil: nothing told yet
	watch   WatchStatus
	record  record // as in the journal
}

func newSource(d *Daemon, c Source) *source {
	s := &source{d: d, c: c, wake: make(chan struct{}, 1), offset: rand.N(scheduleJitter)}
	for _, p := range d.c.Private {
		if rel, ok := below(c.Path, p); ok {
			s.ignore.paths = append(s.ignore.paths, rel)
		}
	}
	s.ignore.add(c.Exclude)
	s.watch.Mode = "starting"
	if c.ScanOnly {
		s.watch.Mode = "off"
	}
	return s
}

// load takes over what the journal knows, and makes a scan due: nobody watched
// while the daemon was not there.
func (s *source) load() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = s.d.journal.get(s.c.Name)
	s.scanAt = now
	if s.record.Since.IsZero() {
		s.record.Since = now
	}
	for _, t := range []*time.Time{&s.record.PendingSince, &s.record.LastSaved, &s.record.Since} {
		if t.After(now) { // the clock was set back
			*t = now.Round(0)
		}
	}
	s.first, s.last = s.record.PendingSince, s.record.PendingSince
	if soon := now.Add(firstRetry); s.record.RetryAt.After(soon) {
		s.record.RetryAt = soon // a restart often is the repair
	}
}

// run backs up what is due until ctx ends.
func (s *source) run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWatcher(s)
	if !s.c.ScanOnly {
		w.sync() // before the first scan, so that nothing falls between the two
		watching.Go(func() { w.run(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() { s.answer(Event{Kind: Stopped, Source: s.c.Name, Error: "the daemon stops"}) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if wait, reason := s.due(time.Now()); wait <= 0 {
			if !s.c.ScanOnly && reason != "change" {
				w.sync()
			}
			s.backup(ctx)
		}
		wait, _ := s.due(time.Now())
		if s.c.Schedule != nil {
			wait = min(wait, wallCheck)
		}
		timer.Reset(max(wait, 0))
	}
}

// due says how long it is until the next backup, and why that one.
func (s *source) due(now time.Time) (wait time.Duration, reason string) {
	p := s.d.pausedNow()
	locked, hold := s.d.c.Key.Locked(), s.d.holds()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) > 0 {
		return 0, "asked" // also when locked: the answer is the error
	}
	if locked {
		return never, "locked"
	}
	at, reason := s.scanAt, "scan"
	switch {
	case s.c.Schedule != nil:
		at, reason = s.scheduled(now), "schedule"
	case !s.first.IsZero():
		quiet, limit := s.last.Add(s.c.Quiet), s.first.Add(s.c.MaxWait)
		if limit.Before(quiet) {
			quiet = limit
		}
		if quiet.Before(at) {
			at, reason = quiet, "change"
		}
	}
	if s.record.Failures > 0 && at.Before(s.record.RetryAt) {
		at, reason = s.record.RetryAt, "retry"
	}
	if p.active(now) {
		reason = "paused"
		switch {
		case p.Until.IsZero():
			return never, reason
		case at.Before(p.Until):
			at = p.Until
		}
	}
	if hold != "" {
		return never, "held"
	}
	return at.Sub(now), reason
}

// changed notes that something below the path may have changed.
func (s *source) changed() {
	now := time.Now()
	s.mu.Lock()
	fresh := s.first.IsZero()
	if fresh {
		s.first = now
	}
	s.last = now
	running := s.cancel != nil
	if s.record.PendingSince.IsZero() { // else an older change is still being saved
		s.record.PendingSince = now
	}
	r := s.record
	s.mu.Unlock()
	if fresh {
		s.d.journal.put(s.c.Name, r)
		s.d.events.publish(Event{Kind: Changed, Source: s.c.Name})
	}
	if fresh && !running {
		s.wakeUp()
	}
}

// scanSoon makes a scan due after wait, unless one is due before.
func (s *source) scanSoon(wait time.Duration) {
	s.mu.Lock()
	if at := time.Now().Add(wait); at.Before(s.scanAt) {
		s.scanAt = at
	}
	s.mu.Unlock()
	s.wakeUp()
}

// ask requests a backup that begins after now. Its last event goes to done,
// which has room for one.
func (s *source) ask(done chan<- Event) {
	s.mu.Lock()
	s.asked = append(s.asked, done)
	s.mu.Unlock()
	s.wakeUp()
}

// answer ends the requests that wait with e.
func (s *source) answer(e Event) {
	s.mu.Lock()
	asked := s.asked
	s.asked = nil
	s.mu.Unlock()
	for _, done := range asked {
		done <- e
	}
}

// stop ends a running backup; it is no failure.
func (s *source) stop(why error) {
	s.mu.Lock()
	if s.cancel != nil {
		s.cancel(why)
	}
	s.mu.Unlock()
	s.wakeUp()
}

func (s *source) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// options is what the repository is asked to save.
func (s *source) options() backup.BackupOptions { return s.excluding(s.c.Exclude) }

// excluding is options with other patterns.
func (s *source) excluding(patterns []string) backup.BackupOptions {
	exclude := slices.Clone(patterns)
	for _, rel := range s.ignore.paths {
		exclude = append(exclude, "/"+escape(rel)) // last: nothing may bring it back
	}
	return backup.BackupOptions{
		Source: s.c.Name, Paths: []string{s.c.Path}, Host: s.d.c.Host, Tags: s.c.Tags,
		Exclude: exclude, ExcludeLarger: s.c.ExcludeLarger, ExcludeCaches: s.c.ExcludeCaches,
		OneFileSystem: s.c.OneFileSystem, SkipUnchanged: true, Progress: s.progress,
	}
}

func (s *source) progress(p backup.Progress) {
	s.mu.Lock()
	s.current = &p
	s.mu.Unlock()
	s.d.events.publish(Event{Kind: Progress, Source: s.c.Name, Progress: &p})
}

// backup runs one, from a free slot to the journal.
func (s *source) backup(ctx context.Context) {
	select {
	case s.d.slots <- struct{}{}:
		defer func() { <-s.d.slots }()
	case <-ctx.Done():
		return
	}
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if wait, _ := s.due(time.Now()); wait > 0 {
		return // paused or locked while it waited for the slot
	}
	asked, before := s.begin(cancel)
	s.d.log.Info("backup begins", zap.String("source", s.c.Name))
	s.d.events.publish(Event{Kind: Started, Source: s.c.Name})
	snapshot, report, err := s.save(run)
	e := s.end(run, before, snapshot, report, err)
	s.d.events.publish(e)
	for _, done := range asked {
		done <- e
	}
}

// below says where inside dir path lies; false when it does not, or is dir.
func below(dir, path string) (rel string, ok bool) {
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return rel, true
}
