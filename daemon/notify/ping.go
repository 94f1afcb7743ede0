package notify

import (
	"context"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
)

// pingPause is the least time between two pings of a source that tell the same: a
// source that changes all day is saved hundreds of times.
const pingPause = 5 * time.Minute

// pinger tells a dead man's switch for each source that has one, as
// healthchecks.io and others understand it: the address alone is a success,
// /start a beginning, /fail a failure. No name and no error is sent.
type pinger struct {
	log *zap.Logger

	mu    sync.Mutex
	files map[string]string // by source
	last  map[string]pinged
	jobs  map[string]chan string // for each source what to send next; holds one
}

type pinged struct {
	failed bool
	at     time.Time
}

func newPinger(log *zap.Logger) *pinger {
	return &pinger{log: log, last: make(map[string]pinged), jobs: make(map[string]chan string)}
}

func (p *pinger) set(files map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files = files
}

// run pings until ctx ends.
func (p *pinger) run(ctx context.Context, events <-chan daemon.Event) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			path, ok := p.due(e)
			if !ok {
				continue
			}
			jobs := p.jobs[e.Source]
			if jobs == nil {
				jobs = make(chan string, 1)
				p.jobs[e.Source] = jobs
				all.Go(func() { p.serve(ctx, e.Source, jobs) })
			}
			select {
			case <-jobs: // one that has not been sent is out of date
			default:
			}
			jobs <- path
		}
	}
}

// due says what to send for an event.
func (p *pinger) due(e daemon.Event) (path string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.files[e.Source] == "" {
		return "", false
	}
	last := p.last[e.Source]
	recent := time.Since(last.at) < pingPause
	switch e.Kind {
	case daemon.Started:
		return "start", !recent
	case daemon.Saved:
		if recent && !last.failed {
			return "", false
		}
		p.last[e.Source] = pinged{at: time.Now()}
		return "", true
	case daemon.Failed:
		if recent && last.failed {
			return "", false
		}
		p.last[e.Source] = pinged{true, time.Now()}
		return "fail", true
	}
	return "", false
}

// serve sends the pings of one source. A newer one takes the place of one that
// does not get through.
func (p *pinger) serve(ctx context.Context, source string, jobs <-chan string) {
	for {
		select {
		case <-ctx.Done():
			return
		case path := <-jobs:
			p.mu.Lock()
			file := p.files[source]
			p.mu.Unlock()
			one, cancel := context.WithTimeout(ctx, timeout)
			err := post(one, file, path, http.Header{"User-Agent": {"coffer"}}, nil)
			cancel()
			if err != nil && ctx.Err() == nil && path != "start" {
				err = p.again(ctx, file, path, jobs)
			}
			if err != nil && ctx.Err() == nil {
				p.log.Warn("ping given up", zap.String("source", source), zap.Error(err))
			}
		}
	}
}

// again tries a ping that failed a few times more, unless there is a newer one.
func (p *pinger) again(ctx context.Context, file, path string, jobs <-chan string) (err error) {
	return persist(ctx, func() error {
		if len(jobs) > 0 {
			return nil
		}
		one, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return post(one, file, path, http.Header{"User-Agent": {"coffer"}}, nil)
	})
}
