package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
)

// The delays between attempts: they double from the first to the last, each
// give or take a quarter, so that many machines do not come back together.
const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// backoff is the delay after that many failures in a row.
func backoff(failures int) time.Duration {
	d := firstRetry
	for range failures - 1 {
		if d *= 2; d >= lastRetry {
			d = lastRetry
			break
		}
	}
	return jitter(d, 4)
}

// jitter is d, give or take a part of it.
func jitter(d time.Duration, part int64) time.Duration {
	width := int64(d) / part
	return d - time.Duration(width) + time.Duration(rand.Int64N(2*width+1))
}

// before is what a run may have to give back when it does not succeed.
type before struct{ first, last, start time.Time }

// begin takes the requests and the changes that the run is for.
func (s *source) begin(cancel context.CancelCauseFunc) (asked []chan<- Event, b before) {
	now := time.Now()
	s.mu.Lock()
	asked, s.asked = s.asked, nil
	b = before{s.first, s.last, now}
	s.first, s.last = time.Time{}, time.Time{}
	s.scanAt = now.Add(never)
	s.cancel, s.current, s.byHand = cancel, nil, len(asked) > 0
	s.record.LastAttempt = now
	if s.record.PendingSince.IsZero() {
		s.record.PendingSince = now // a run that is killed was not for nothing
	}
	r := s.record
	s.mu.Unlock()
	s.d.journal.put(s.c.Name, r)
	return asked, b
}

// end puts the outcome into the state and the journal, and says it in an event.
func (s *source) end(run context.Context, b before, snapshot *backup.Snapshot, report backup.Report, err error) Event {
	now := time.Now()
	took := now.Sub(b.start)
	e := Event{Source: s.c.Name, Took: took}
	log := s.d.log.With(zap.String("source", s.c.Name), zap.Duration("took", took))
	s.mu.Lock()
	s.cancel, s.current = nil, nil
	switch cause := context.Cause(run); {
	case err == nil:
		e.Kind, e.Snapshot, e.Report = Saved, snapshot.ID, &report
		s.saved(now, snapshot, report)
	case cause != nil, errors.Is(err, ErrLocked):
		if cause == nil {
			cause = ErrLocked
		}
		e.Kind, e.Error = Stopped, cause.Error()
		s.restore(b)
	default:
		s.restore(b)
		s.record.Failures++
		s.record.LastError = err.Error()
		s.record.Hint, s.record.Lasting = "", false
		var trouble *Trouble
		if errors.As(err, &trouble) {
			s.record.Hint, s.record.Lasting = trouble.Hint, trouble.Lasting
		}
		s.record.RetryAt = now.Add(backoff(s.record.Failures))
		e.Kind, e.Error, e.Hint, e.Until = Failed, err.Error(), s.record.Hint, s.record.RetryAt
	}
	r := s.record
	s.d.metrics.ran(s.c.Name, e)
	s.mu.Unlock()
	s.d.journal.put(s.c.Name, r)
	switch e.Kind {
	case Saved:
		log.Info("backup saved", zap.String("snapshot", snapshot.ID), zap.Int64("uploaded", report.Uploaded), zap.Int("unreadable", len(report.Failed)))
	case Stopped:
		log.Info("backup stopped", zap.String("reason", e.Error))
	default:
		log.Warn("backup failed", zap.Error(err), zap.Int("failures", r.Failures), zap.Time("next", r.RetryAt))
	}
	return e
}

// saved notes a success. The caller holds mu.
func (s *source) saved(now time.Time, snapshot *backup.Snapshot, report backup.Report) {
	s.record.PendingSince = s.first // changes seen while it ran
	s.record.LastSaved, s.record.Snapshot = now, snapshot.ID
	s.record.Unreadable = len(report.Failed)
	s.record.Failures, s.record.LastError, s.record.RetryAt = 0, "", time.Time{}
	s.record.Hint, s.record.Lasting = "", false
	if at := now.Add(jitter(s.c.Scan, 10)); at.Before(s.scanAt) {
		s.scanAt = at
	}
}

// restore makes the source due again as it was. The caller holds mu.
func (s *source) restore(b before) {
	if !b.first.IsZero() {
		s.first = b.first
		if s.last.Before(b.last) {
			s.last = b.last
		}
	}
	s.scanAt = b.start
}
