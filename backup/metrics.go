package backup

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of a repository; the prefix is set where the registry is made.
type metrics struct {
	files    *prometheus.CounterVec // by state: new, changed, unchanged, unreadable
	read     prometheus.Counter
	added    prometheus.Counter
	uploaded prometheus.Counter
	restored prometheus.Counter
	problems prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		files:    f.NewCounterVec(prometheus.CounterOpts{Name: "files_total", Help: "Files seen by backups."}, []string{"state"}),
		read:     counter("read_bytes_total", "Bytes read from files."),
		added:    counter("added_bytes_total", "Bytes of new chunks, before compression."),
		uploaded: counter("uploaded_bytes_total", "Sealed bytes sent."),
		restored: counter("restored_bytes_total", "Bytes written by restores."),
		problems: counter("check_problems_total", "Damaged or missing objects found by checks."),
	}
}

// count takes in what a run has done.
func (m *metrics) count(r *Report) {
	m.files.WithLabelValues("new").Add(float64(r.New))
	m.files.WithLabelValues("changed").Add(float64(r.Changed))
	m.files.WithLabelValues("unchanged").Add(float64(r.Unchanged))
	m.files.WithLabelValues("unreadable").Add(float64(len(r.Failed)))
	m.read.Add(float64(r.Read))
	m.added.Add(float64(r.Added))
	m.uploaded.Add(float64(r.Uploaded))
}
