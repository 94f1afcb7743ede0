package daemon

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics counts what happens; what is now, a collector reads from the status.
type metrics struct {
	runs      *prometheus.CounterVec
	duration  prometheus.Histogram
	events    prometheus.Counter
	overflows prometheus.Counter
	tasks     *prometheus.CounterVec
}

func newMetrics(d *Daemon, r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		runs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "backup_runs_total", Help: "Backups that ended, by result: ok, partial (files were unreadable), error, stopped.",
		}, []string{"source", "result"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "backup_duration_seconds", Help: "How long backups that saved something took.",
			Buckets: []float64{0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 28800},
		}),
		events:    f.NewCounter(prometheus.CounterOpts{Name: "watch_events_total", Help: "Changes that the file system told of."}),
		overflows: f.NewCounter(prometheus.CounterOpts{Name: "watch_overflows_total", Help: "Times that the system lost events."}),
		tasks: f.NewCounterVec(prometheus.CounterOpts{
			Name: "task_runs_total", Help: "Tasks that ended, by result: ok, error, stopped.",
		}, []string{"task", "result"}),
	}
	if r != nil {
		r.MustRegister(collector{d})
	}
	return m
}

func (m *metrics) ran(source string, e Event) {
	result := "error"
	switch {
	case e.Kind == Stopped:
		result = "stopped"
	case e.Kind == Saved && len(e.Report.Failed) > 0:
		result = "partial"
	case e.Kind == Saved:
		result = "ok"
	}
	m.runs.WithLabelValues(source, result).Inc()
	if e.Kind == Saved {
		m.duration.Observe(e.Took.Seconds())
	}
}

// task counts the end of one.
func (m *metrics) task(name string, err error) {
	result := "error"
	var cut *stopped
	switch {
	case err == nil:
		result = "ok"
	case errors.As(err, &cut), errors.Is(err, ErrLocked):
		result = "stopped"
	}
	m.tasks.WithLabelValues(name, result).Inc()
}

// collector reads the state of each source when it is asked for.
type collector struct{ d *Daemon }

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"source"}, nil)
}

var (
	descSaved    = desc("backup_last_success_timestamp_seconds", "When the source was last saved.")
	descAttempt  = desc("backup_last_attempt_timestamp_seconds", "When a backup of the source last began.")
	descInterval = desc("backup_interval_seconds", "How often the source is scanned.")
	descFailures = desc("backup_failures", "Failures since the last success.")
	descRunning  = desc("backup_in_progress", "1 while a backup runs.")
	descLag      = desc("backup_lag_seconds", "Age of the oldest change that is not saved.")
	descWatched  = desc("watch_directories", "Directories that are watched.")
	descLimit    = desc("watch_limit_reached", "1 when not all directories can be watched.")
	descLocked   = prometheus.NewDesc("locked", "1 while the backup key is not in memory.", nil, nil)
	descTask     = prometheus.NewDesc("task_last_success_timestamp_seconds", "When the task last went well.", []string{"task"}, nil)
	descPaused   = prometheus.NewDesc("paused", "1 while backups are paused.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSaved, descAttempt, descInterval, descFailures, descRunning, descLag, descWatched, descLimit, descLocked, descPaused, descTask} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	st := c.d.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descLocked, flag(st.Locked))
	gauge(descPaused, flag(st.Paused))
	sources, _ := c.d.find(nil)
	for _, s := range sources {
		gauge(descInterval, s.c.Scan.Seconds(), s.c.Name)
	}
	for _, t := range st.Tasks {
		gauge(descTask, seconds(t.LastOK), t.Name)
	}
	for _, s := range st.Sources {
		gauge(descSaved, seconds(s.LastSaved), s.Name)
		gauge(descAttempt, seconds(s.LastAttempt), s.Name)
		gauge(descFailures, float64(s.Failures), s.Name)
		gauge(descRunning, flag(s.State == "running"), s.Name)
		lag := 0.0
		if !s.PendingSince.IsZero() {
			lag = time.Since(s.PendingSince).Seconds()
		}
		gauge(descLag, lag, s.Name)
		gauge(descWatched, float64(s.Watch.Directories), s.Name)
		gauge(descLimit, flag(s.Watch.Mode == "limited"), s.Name)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is 0 for a time that is not known, as Prometheus has it.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
