package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// do runs fn in a session of its own. If the session, the login or the token
// turns out to be lost, the module is opened anew and fn runs once more. When
// ctx ends first, do returns; fn then keeps its session until it returns too.
func do[T any](ctx context.Context, t *Token, op string, fn func(*session) (T, error)) (v T, err error) {
	begin := time.Now()
	defer func() { t.metrics.done(op, begin, err) }()
	for again := false; ; again = true {
		o, err := t.acquire(ctx)
		if err != nil {
			return v, err
		}
		v, err = call(ctx, t, o.lane(op), fn)
		if err == nil || !lost(err) {
			return v, err
		}
		if again {
			return v, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		t.log.Warn("token lost, opening it anew", zap.String("operation", op), zap.Error(err))
		t.replace(o, "lost")
	}
}

// call waits for a session of a lane of the module, which the caller has
// acquired, and runs fn.
func call[T any](ctx context.Context, t *Token, lane chan *session, fn func(*session) (T, error)) (v T, err error) {
	s, err := take(ctx, lane, t.c.Wait)
	if err != nil {
		t.release()
		return v, err
	}
	type answer struct {
		v   T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := fn(s)
		lane <- s
		t.release()
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
		return v, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// take waits for an idle session until ctx ends or wait is over.
func take(ctx context.Context, lane chan *session, wait time.Duration) (*session, error) {
	select {
	case s := <-lane:
		return s, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case s := <-lane:
		return s, nil
	case <-timer.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// acquire returns the open module, which stays open until release. It opens
// the module if it is down, and replaces one that has served its time.
func (t *Token) acquire(ctx context.Context) (*opened, error) {
	timer := time.NewTimer(t.c.Wait)
	defer timer.Stop()
	for {
		t.mu.Lock()
		o, opening := t.now, t.opening
		switch {
		case t.closed:
			t.mu.Unlock()
			return nil, ErrClosed
		case opening != nil:
		case o == nil && (errors.Is(t.failed, ErrPIN) || time.Since(t.at) < reopenPause):
			defer t.mu.Unlock()
			return nil, t.failed
		case o != nil && (t.recycle <= 0 || t.worn < t.recycle):
			t.worn++
			t.users++
			t.mu.Unlock()
			return o, nil
		}
		t.mu.Unlock()
		if opening == nil {
			t.replace(o, "worn")
			continue
		}
		select {
		case <-opening:
		case <-timer.C:
			return nil, ErrBusy
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
		}
	}
}

// release ends what acquire began.
func (t *Token) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users--
	if t.users == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// drain waits until no operation is in flight. Nobody acquires meanwhile.
func (t *Token) drain() {
	t.mu.Lock()
	idle := t.idle
	if t.users > 0 && idle == nil {
		idle = make(chan struct{})
		t.idle = idle
	}
	t.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// replace begins to close the module and to open it again, unless somebody has
// begun, or done so since old was seen; acquire waits for the end. SoftHSM never
// frees a destroyed session object; only finalising it gives the memory back.
func (t *Token) replace(old *opened, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.opening != nil || t.now != old {
		return
	}
	if old == nil {
		reason = "down"
	}
	done := make(chan struct{})
	t.opening = done
	go func() { // its own, so that a library that hangs holds no caller longer than he wants
		begin := time.Now()
		t.drain()
		o, err := t.restart(old)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.now, t.failed, t.worn = o, err, 0
		if err != nil {
			t.at = time.Now()
			t.log.Error("token not opened", zap.String("reason", reason), zap.Error(err))
		} else {
			t.info = o.root.info()
			t.metrics.reopenings.WithLabelValues(reason).Inc()
			t.log.Info("token opened anew", zap.String("reason", reason), zap.Duration("took", time.Since(begin)))
		}
		t.opening = nil
		close(done)
	}()
}

func (t *Token) restart(old *opened) (*opened, error) {
	if old != nil {
		if err := old.close(); err != nil {
			t.log.Warn("closing the token", zap.Error(err)) // and on: a dead token cannot be closed properly
		}
		t.metrics.state(0)
	}
	o, err := t.start()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return o, nil
}
