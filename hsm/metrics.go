package hsm

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	operations *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	reopenings *prometheus.CounterVec
	up         prometheus.Gauge
	sessions   prometheus.Gauge
	refused    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		operations: f.NewCounterVec(prometheus.CounterOpts{
			Name: "operations_total", Help: "Operations of the token by kind and result.",
		}, []string{"op", "result"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "operation_duration_seconds", Help: "Time of operations that succeeded, waiting included.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}, []string{"op"}),
		reopenings: f.NewCounterVec(prometheus.CounterOpts{
			Name: "reopenings_total", Help: "Times that the module was opened anew: worn, lost or down.",
		}, []string{"reason"}),
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "up", Help: "1 while the token is open.",
		}),
		sessions: f.NewGauge(prometheus.GaugeOpts{
			Name: "sessions", Help: "Worker sessions of the open token.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "login_failures_total", Help: "Logins that the token refused. Each may be one of few that it bears.",
		}),
	}
}

// state says with how many sessions the token is open; 0 is not at all.
func (m *metrics) state(sessions int) {
	m.sessions.Set(float64(sessions))
	m.up.Set(float64(min(sessions, 1)))
}

func (m *metrics) done(op string, begin time.Time, err error) {
	m.operations.WithLabelValues(op, result(err)).Inc()
	if err == nil {
		m.seconds.WithLabelValues(op).Observe(time.Since(begin).Seconds())
	}
}

// result names err for a label. A fault is an alarm: the token computed wrongly.
func result(err error) string {
	for _, r := range []struct {
		err  error
		name string
	}{
		{nil, "ok"}, {errFault, "fault"}, {ErrRecord, "record"}, {ErrBusy, "busy"}, {ErrPIN, "pin"},
		{ErrUnavailable, "unavailable"}, {ErrAnchor, "anchor"}, {ErrClosed, "closed"},
	} {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "error"
}
