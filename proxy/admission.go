package proxy

import (
	"context"
	"time"
)

const (
	// maxRequests is how many requests are worked on at once: each takes up to
	// 1.5 MiB. Others wait, and have nothing in memory but their headers.
	maxRequests = 256

	// maxWait is how long one waits before it is told to come back.
	maxWait = 20 * time.Second
)

// admission bounds the requests that are worked on.
type admission chan struct{}

// enter waits for a place. Only who has shown a key may wait: nobody else can
// hold the others up.
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
