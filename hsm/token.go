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
	maxSessions    = 256 - quickSessions - 1 // of a token, the root among them
	maxRandom      = 1024

	// reopenPause is the shortest time between two attempts to open a token
	// that could not be opened: each is a login.
	reopenPause = time.Second
)

// process is held while a token is open or being provisioned: a module is
// initialised once a process, and SoftHSM finds its token by the environment.
var process sync.Mutex

// Token is an open token. It is safe for concurrent use. A call into the
// library cannot be interrupted: when a context ends, the caller returns with
// [ErrUnavailable], and the operation may take effect nevertheless.
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
	tickets    atomic.Uint64 // calls of SetAnchor
	marks      sync.Mutex    // held while a mark is set
	anchored   uint64        // ticket of the newest anchor; marks is held

	mu      sync.Mutex    // of what follows; never held across a call into the library
	now     *opened       // nil when the last opening failed
	info    Info          // of the last opening
	users   int           // operations in now; it must not be closed under them
	idle    chan struct{} // if not nil, closed when users becomes 0
	opening chan struct{} // if not nil, somebody is replacing or closing now; closed when done
	closed  bool
	worn    int64     // operations since the module was opened
	failed  error     // of the last opening
	at      time.Time // of that failure
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
	case c.Sessions < 0 || c.Sessions > maxSessions:
		return fmt.Errorf("hsm: %d sessions, want 1 to %d", c.Sessions, maxSessions)
	case c.Mode > ModeUnseal:
		return fmt.Errorf("hsm: unknown mode %d", c.Mode)
	}
	if err := checkPIN(c.PIN); err != nil {
		return fmt.Errorf("hsm: %w", err)
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
	t.info = t.now.root.info()
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
// caller sees to it that nobody uses it.
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
	t.metrics.state(t.c.Sessions)
	return o, nil
}

// Info returns what is known of the token.
func (t *Token) Info() Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info
}

// Close waits for operations in flight, logs out and removes the working copy.
// Closing twice is no error.
func (t *Token) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	opening := t.opening
	t.mu.Unlock()
	if opening != nil {
		<-opening
	}
	t.drain()
	defer process.Unlock()
	err := errors.Join(t.anchor.close(), t.generation.close())
	if t.now != nil { // nobody else comes here any more
		err = errors.Join(err, t.now.close())
		t.metrics.state(0)
	}
	clear(t.pin)
	t.work.remove()
	return err
}
