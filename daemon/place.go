package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"coffer/backup"
)

// place is what the path of a source is: a disk that is not mounted leaves an
// empty folder, and must not be taken for "everything was deleted".
type place struct {
	mounted bool // a mount point
	filled  bool // not empty
}

// look finds out. What is no folder, or not there, is left to the backup.
func look(path string) (p place, dir bool) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return place{}, false
	}
	parent, err := os.Stat(filepath.Dir(path))
	p.mounted = err == nil && device(parent) != device(info)
	f, err := os.Open(path)
	if err != nil {
		return place{}, false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	p.filled = !errors.Is(err, io.EOF)
	return p, true
}

const unmountedHint = "mount it; if it is meant to be so, set allow_unmounted = true for the source"

// missing says what is not as it was at the last success.
func (s *source) missing(p place) error {
	s.mu.Lock()
	r := s.record
	s.mu.Unlock()
	switch {
	case s.c.AllowUnmounted:
		return nil
	case r.Mounted && !p.mounted:
		return &Trouble{Err: fmt.Errorf("%s was a mount point and is none now: it is not backed up", s.c.Path), Hint: unmountedHint, Lasting: true}
	case r.Filled && !p.filled:
		return &Trouble{Err: fmt.Errorf("%s is empty and was not before: it is not backed up", s.c.Path), Hint: unmountedHint, Lasting: true}
	}
	return nil
}

// save has the source saved, if it is where it was.
func (s *source) save(ctx context.Context) (*backup.Snapshot, backup.Report, error) {
	before, dir := look(s.c.Path)
	if dir {
		if err := s.missing(before); err != nil {
			return nil, backup.Report{}, err
		}
	}
	repo, err := s.d.c.Open(ctx)
	if err != nil {
		return nil, backup.Report{}, err
	}
	snapshot, report, err := repo.Backup(ctx, s.options())
	if err != nil || !dir {
		return snapshot, report, err
	}
	if after, _ := look(s.c.Path); before.mounted && !after.mounted && !s.c.AllowUnmounted {
		return nil, report, &Trouble{Err: fmt.Errorf("%s was unmounted while it was backed up", s.c.Path), Hint: unmountedHint, Lasting: true}
	}
	s.mu.Lock()
	s.record.Mounted, s.record.Filled = before.mounted, before.filled
	s.mu.Unlock()
	return snapshot, report, nil
}

// scheduled is when the schedule has the next backup begin. The caller holds mu.
func (s *source) scheduled(now time.Time) time.Time {
	now = now.Round(0)
	saved := s.record.LastSaved.Round(0)
	switch {
	case saved.IsZero():
		return now // the first one need not wait
	case saved.After(now):
		saved = now // the clock was set back
	}
	return s.c.Schedule.Next(saved.Add(-s.offset).In(time.Local)).Add(s.offset)
}
