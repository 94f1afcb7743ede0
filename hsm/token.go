package hsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
	"go.uber.org/zap"
)

const (
	defaultWait    = 2 * time.Second
	defaultRecycle = 200_000
	maxSessions    = 256
	maxRandom      = 1024

	// reopenPause is the shortest time between two attempts to open a token
	// that could not be opened: each is a login.
	reopenPause = time.Second
)

// process is held while a token is open or being provisioned: a module is
// initialised once a process, and SoftHSM finds its token by the environment.
var process sync.Mutex

// Token is an open token. It is safe for concurrent use. A context bounds the
// wait for a session only: a call into the library cannot be interrupted.
type Token struct {
	c       Config
	pin     PIN
	lib     *pkcs11.Ctx
	work    *workCopy // nil for a real HSM
	recycle int64
	log     *zap.Logger
	metrics *metrics

	anchor     mark
	generation mark
	raise      sync.Mutex // held from reading the generation to raising it

	// mu is held for reading by operations, for writing by what opens or
	// closes the module: closing a session in use is a segmentation fault.
	mu     sync.RWMutex
	now    *opened // nil when the last opening failed
	info   Info    // of the last opening
	closed bool
	fatal  error     // set for good when the PIN was refused
	failed time.Time // when the last opening failed

	ops atomic.Int64 // since the module was opened
}

// Format keeps the PIN out of every log.
func (*Token) Format(f fmt.State, _ rune) { io.WriteString(f, "hsm.Token(hidden)") }

// check fills in what is optional.
func (c *Config) check() error {
	switch {
	case c.Module == "":
		return errors.New("hsm: no PKCS#11 module is configured")
	case len(c.TokenLabel) < 1 || len(c.TokenLabel) > 32:
		return fmt.Errorf("hsm: token label of %d bytes, want 1 to 32", len(c.TokenLabel))
	case len(c.PIN) < 4 || len(c.PIN) > 255:
		return fmt.Errorf("hsm: PIN of %d bytes, want 4 to 255", len(c.PIN))
	case c.Sessions < 0 || c.Sessions > maxSessions:
		return fmt.Errorf("hsm: %d sessions, want 1 to %d", c.Sessions, maxSessions)
	case c.Mode > ModeUnseal:
		return fmt.Errorf("hsm: unknown mode %d", c.Mode)
	}
	if c.Sessions == 0 {
		c.Sessions = min(2*runtime.GOMAXPROCS(0), maxSessions)
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	if c.Mode == 0 {
		c.Mode = ModeWrapped
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return nil
}

// Open logs in to a provisioned token, checks its keys and replays the vectors
// of RFC 9497. Only one token may be open in a process. c.PIN is wiped.
func Open(ctx context.Context, c Config) (*Token, error) {
	t, steps, err := openToken(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := fit(steps); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	i := t.Info()
	t.log.Info("token opened", zap.Stringer("mode", i.Mode), zap.String("manufacturer", i.Manufacturer),
		zap.String("model", i.Model), zap.Bool("software", i.Software), zap.Int("keys", len(i.Keys)), zap.Int("sessions", t.c.Sessions))
	return t, nil
}

// openToken opens the token and probes it; what the probe found is for the
// caller to judge.
func openToken(ctx context.Context, c Config) (_ *Token, _ []Step, err error) {
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if !process.TryLock() {
		return nil, nil, fmt.Errorf("%w: this process has a token open", ErrUnavailable)
	}
	t := &Token{c: c, pin: append([]byte(nil), c.PIN...), log: c.Log, metrics: newMetrics(c.Metrics)}
	clear(c.PIN)
	t.c.PIN = nil
	defer func() {
		if err != nil {
			t.work.remove()
			process.Unlock()
		}
	}()
	if t.lib, err = load(c.Module); err != nil {
		return nil, nil, err
	}
	if c.Durable != "" {
		if t.work, err = newWorkCopy(c.RunDir); err != nil {
			return nil, nil, err
		}
	}
	if t.now, err = t.start(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	t.recycle = c.RecycleOps
	if t.recycle == 0 && t.now.root.software() {
		t.recycle = defaultRecycle
	}
	t.anchor, t.generation = &objectMark{name: anchorName}, &objectMark{name: generationName}
	if c.Durable != "" {
		t.anchor = &fileMark{dir: c.Durable, name: anchorName}
		t.generation = &fileMark{dir: c.Durable, name: generationName}
	}
	s := <-t.now.free
	steps := s.probe()
	t.now.free <- s
	return t, steps, nil
}

func load(module string) (*pkcs11.Ctx, error) {
	lib := pkcs11.New(module)
	if lib == nil {
		return nil, fmt.Errorf("%w: cannot load %s", ErrUnavailable, module)
	}
	return lib, nil // never unloaded: the library may have left handlers behind
}

// start opens the module, from a fresh working copy if there is one. The
// caller holds t.mu for writing, or has the token to itself.
func (t *Token) start() (*opened, error) {
	if t.work != nil {
		if err := t.work.fill(t.c.Durable); err != nil {
			return nil, err
		}
	}
	root, err := openModule(t.lib, t.c.TokenLabel, t.pin)
	if errors.Is(err, ErrPIN) {
		t.metrics.refused.Inc()
	}
	if err != nil {
		return nil, err
	}
	o, err := root.workers(t.c.Sessions)
	if err != nil {
		return nil, errors.Join(err, (&opened{root: root}).close())
	}
	t.ops.Store(0)
	t.info = root.info()
	t.metrics.state(t.c.Sessions)
	return o, nil
}

// do runs fn in a session of its own. If the session, the login or the token
// turns out to be lost, the module is opened anew and fn runs once more.
func (t *Token) do(ctx context.Context, op string, fn func(*session) error) (err error) {
	begin := time.Now()
	defer func() { t.metrics.done(op, begin, err) }()
	for again := false; ; again = true {
		o, err := t.acquire()
		if err != nil {
			return err
		}
		err = o.run(ctx, t.c.Wait, fn)
		t.mu.RUnlock()
		if err == nil || !lost(err) {
			return err
		}
		if again {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		t.log.Warn("token lost, opening it anew", zap.String("operation", op), zap.Error(err))
		if err := t.reopen(o, "lost"); err != nil {
			return err
		}
	}
}

// acquire returns the open module with t.mu held for reading.
func (t *Token) acquire() (*opened, error) {
	for {
		t.mu.RLock()
		o, closed := t.now, t.closed
		if closed {
			t.mu.RUnlock()
			return nil, ErrClosed
		}
		worn := t.recycle > 0 && t.ops.Add(1) > t.recycle
		if o != nil && !worn {
			return o, nil
		}
		t.mu.RUnlock()
		reason := "worn"
		if o == nil {
			reason = "down"
		}
		if err := t.reopen(o, reason); err != nil {
			return nil, err
		}
	}
}

// run gives fn a session, for which it waits until ctx ends or wait is over.
func (o *opened) run(ctx context.Context, wait time.Duration, fn func(*session) error) error {
	var s *session
	select {
	case s = <-o.free:
	default:
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case s = <-o.free:
		case <-timer.C:
			return ErrBusy
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
		}
	}
	defer func() { o.free <- s }()
	return fn(s)
}

// reopen closes the module and opens it again, unless somebody else has done
// so since old was seen. SoftHSM never frees a destroyed session object; only
// finalising the library gives the memory back.
func (t *Token) reopen(old *opened, reason string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case t.fatal != nil:
		return t.fatal
	case t.now != old:
		return nil
	case t.now == nil && time.Since(t.failed) < reopenPause:
		return ErrUnavailable
	}
	begin := time.Now()
	if t.now != nil {
		if err := t.now.close(); err != nil {
			t.log.Warn("closing the token", zap.Error(err)) // and on: a dead token cannot be closed properly
		}
		t.now = nil
		t.metrics.state(0)
	}
	o, err := t.start()
	if errors.Is(err, ErrPIN) {
		t.fatal = err
		return err
	}
	if err != nil {
		t.failed = time.Now()
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	t.now = o
	t.metrics.reopenings.WithLabelValues(reason).Inc()
	t.log.Info("token opened anew", zap.String("reason", reason), zap.Duration("took", time.Since(begin)))
	return nil
}

// Info returns what is known of the token.
func (t *Token) Info() Info {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.info
}

// Close waits for operations in flight, logs out and removes the working copy.
// Closing twice is no error.
func (t *Token) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	defer process.Unlock()
	err := errors.Join(t.anchor.close(), t.generation.close())
	if t.now != nil {
		err = errors.Join(err, t.now.close())
		t.now = nil
		t.metrics.state(0)
	}
	clear(t.pin)
	t.work.remove()
	return err
}
