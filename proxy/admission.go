package proxy

import (
	"context"
	"time"
)

const (
	// maxRequests is how many requests are worked on at once: each takes up to
	// 1.5 MiB. Others wait, and have nothing in memory but their headers.
	maxRequests = 256

	// maxUnsigned is how many more are, of those that nobody signed.
	maxUnsigned = 64

	// maxWait is how long one waits before it is told to come back.
	maxWait = 20 * time.Second
)

// admission bounds the requests that are worked on.
type admission chan struct{}

// enter waits for a place for rq. Who did not sign has places apart, so that nobody
// without a key can hold up those who have shown one.
func (p *Proxy) enter(rq *request) (leave func(), err error) {
	if rq.who.anonymous {
		return p.admitUnsigned.enter(rq.Context())
	}
	return p.admit.enter(rq.Context())
}

// enter waits for a place.
func (a admission) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-a }
	select {
	case a <- struct{}{}:
		return leave, nil
	default:
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case a <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, errSlowDown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
