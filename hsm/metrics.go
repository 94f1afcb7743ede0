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
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		operations: f.NewCounterVec(prometheus.CounterOpts{
			Name: "operations_total", Help: "Operations of the token by kind and result.",
		}, []string{"operation", "result"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "operation_seconds", Help: "Time of operations that succeeded, waiting included.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}, []string{"operation"}),
		reopenings: f.NewCounterVec(prometheus.CounterOpts{
			Name: "reopenings_total", Help: "Times that the module was opened anew: worn, lost or down.",
		}, []string{"reason"}),
	}
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
