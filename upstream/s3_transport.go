package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// errIdle is a request that made no progress for the time allowed.
var errIdle = errors.New("no progress in time")

// kindKey carries the kind of a request to the transport, for counting.
type kindKey struct{}

// slowKinds are requests that a store may work on for long before it answers.
var slowKinds = map[string]time.Duration{"complete": 10, "copy": 10}

// transport ends requests that stand still, and counts.
type transport struct {
	base    http.RoundTripper
	timeout time.Duration
	metrics *metrics
	limits  *Limits
	tally   *Tally
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	kind, _ := req.Context().Value(kindKey{}).(string)
	if kind == "" {
		kind = "other"
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{timeout: t.timeout * max(slowKinds[kind], 1), cancel: cancel}
	w.arm()
	req = req.Clone(ctx)
	t.tally.request(kind)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &requestBody{ReadCloser: req.Body, w: w, ctx: ctx, limits: t.limits, tally: t.tally, sent: t.metrics.sent}
		if req.Header.Get("If-None-Match") != "" || req.Header.Get("If-Match") != "" {
			// A store may refuse at once and close, and the body under way then
			// resets the connection before the answer is read.
			req.Header.Set("Expect", "100-continue")
		}
	}
	resp, err := t.base.RoundTrip(req)
	w.disarm()
	if err != nil {
		t.metrics.requests.WithLabelValues(kind, "error").Inc()
		err = w.explain(ctx, err)
		cancel(nil)
		return nil, err
	}
	t.metrics.requests.WithLabelValues(kind, strconv.Itoa(resp.StatusCode/100)+"xx").Inc()
	resp.Body = &responseBody{ReadCloser: resp.Body, w: w, ctx: ctx, limits: t.limits, tally: t.tally, received: t.metrics.received}
	return resp, nil
}

// watch cancels a request that is armed for longer than timeout.
type watch struct {
	timeout time.Duration
	cancel  context.CancelCauseFunc
	mu      sync.Mutex
	timer   *time.Timer
	done    bool
}

func (w *watch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.timeout, func() { w.cancel(errIdle) })
	default:
		w.timer.Reset(w.timeout)
	}
}

func (w *watch) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// end disarms for good.
func (w *watch) end() {
	w.mu.Lock()
	w.done = true
	w.mu.Unlock()
	w.disarm()
	w.cancel(nil)
}

// explain puts errIdle in the place of the cancellation that it caused.
func (w *watch) explain(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errIdle) {
		return fmt.Errorf("%w (%v)", errIdle, w.timeout)
	}
	return err
}

// requestBody lets the time run only while the network has to move: not while
// the sender makes the next bytes.
type requestBody struct {
	io.ReadCloser
	w      *watch
	ctx    context.Context
	limits *Limits
	tally  *Tally
	sent   prometheus.Counter
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.w.disarm()
	n, err := b.ReadCloser.Read(b.limits.piece(p, true))
	if late := b.limits.wait(b.ctx, n, true); late != nil {
		n, err = 0, late
	}
	b.sent.Add(float64(n))
	b.tally.sent(n)
	b.w.arm()
	return n, err
}

// responseBody lets the time run while the reader waits.
type responseBody struct {
	io.ReadCloser
	w        *watch
	ctx      context.Context
	limits   *Limits
	tally    *Tally
	received prometheus.Counter
}

func (b *responseBody) Read(p []byte) (int, error) {
	b.w.arm()
	n, err := b.ReadCloser.Read(b.limits.piece(p, false))
	b.w.disarm()
	b.received.Add(float64(n))
	b.tally.received(n)
	if late := b.limits.wait(b.ctx, n, false); late != nil {
		n, err = 0, late
	}
	if err != nil && err != io.EOF {
		err = b.w.explain(b.ctx, err)
	}
	return n, err
}

func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.w.end()
	return err
}

// metrics count what storage costs.
type metrics struct {
	requests       *prometheus.CounterVec
	sent, received prometheus.Counter
}

// newMetrics registers with r, which may be nil. Registering twice counts both
// into the same.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "requests_total", Help: "Requests sent to the storage, by kind and result.",
		}, []string{"kind", "result"}),
		sent:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sent_bytes_total", Help: "Bytes of bodies sent to the storage."}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "received_bytes_total", Help: "Bytes of bodies received from the storage."}),
	}
	var err error
	if r != nil {
		m.requests, err = register(r, m.requests, err)
		m.sent, err = register(r, m.sent, err)
		m.received, err = register(r, m.received, err)
	}
	return m, err
}

func register[C prometheus.Collector](r prometheus.Registerer, c C, before error) (C, error) {
	err := r.Register(c)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if old, ok := twice.ExistingCollector.(C); ok {
			return old, before
		}
	}
	return c, errors.Join(before, err)
}
