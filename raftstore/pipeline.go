package raftstore

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// pipeline makes replication survive a follower's failed append. In the library
// the reader of answers leaves at the first failure while the sender waits for
// room that only the reader makes (hashicorp/raft issues 611 and 612): the
// follower then gets nothing more, and heartbeats hide it. Here answers are
// always drained, and after a failure nothing is sent, so the sender falls back
// to single appends, which find the right place and start a new pipeline.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	stalled func() bool
	success func(*raft.AppendEntriesRequest)
	failed  atomic.Bool
	done    chan struct{}
	once    sync.Once
}

// maxAnswers is far above the appends that can be under way at once.
const maxAnswers = 512

func newPipeline(inner raft.AppendPipeline, stalled func() bool, success func(*raft.AppendEntriesRequest)) *pipeline {
	p := &pipeline{
		AppendPipeline: inner,
		answers:        make(chan raft.AppendFuture, maxAnswers),
		stalled:        stalled,
		success:        success,
		done:           make(chan struct{}),
	}
	go p.drain()
	return p
}

func (p *pipeline) drain() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() != nil || !f.Response().Success {
				p.failed.Store(true)
			} else {
				p.success(f.Request())
			}
			select {
			case p.answers <- f:
			case <-p.done:
				return
			}
		case <-p.done:
			return
		}
	}
}

// Consumer gives the answers in the order of the appends.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// AppendEntries refuses after a failed answer, and heartbeats of a hung leader.
func (p *pipeline) AppendEntries(q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.failed.Load() || len(q.Entries) == 0 && p.stalled() {
		return nil, raft.ErrPipelineShutdown
	}
	return p.AppendPipeline.AppendEntries(q, r)
}

// Close ends the connection and the drain.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}
