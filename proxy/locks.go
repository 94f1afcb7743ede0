package proxy

import (
	"context"
	"sync"
)

// keyLocks are locks by name. A name that nobody holds or waits for takes no
// memory. The zero value is ready.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	token chan struct{} // full while the lock is held
	users int           // who hold it or wait; guarded by keyLocks.mu
}

// lock waits until no one else holds name, or ctx ends. Names are taken in any
// order, but nobody who holds one waits for another, copies aside, which lock
// only their destination.
func (l *keyLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.locks == nil {
		l.locks = make(map[string]*keyLock)
	}
	k := l.locks[name]
	if k == nil {
		k = &keyLock{token: make(chan struct{}, 1)}
		l.locks[name] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.locks, name)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// lockKey locks one key of a bucket.
func (p *Proxy) lockKey(ctx context.Context, bucket, key string) (unlock func(), err error) {
	return p.locks.lock(ctx, bucket+"/"+key)
}
