package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what the gateway counts. Labels come from closed sets: operations
// and statuses, never names.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	running  prometheus.Gauge
	cut      prometheus.Counter
	corrupt  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "requests_total", Help: "S3 requests answered, by operation and status.",
		}, []string{"operation", "status"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "request_duration_seconds", Help: "Time to answer an S3 request, body included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"operation"}),
		running: f.NewGauge(prometheus.GaugeOpts{Name: "requests_running", Help: "S3 requests being answered."}),
		cut: f.NewCounter(prometheus.CounterOpts{
			Name: "answers_cut_total", Help: "Answers that were broken off because something failed after their first byte.",
		}),
		corrupt: f.NewCounter(prometheus.CounterOpts{
			Name: "corrupt_objects_total", Help: "Requests for objects that the upstream no longer holds as written.",
		}),
	}
}

func (m *metrics) request(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(operation).Observe(took.Seconds())
}
