package raftstore

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the figures of one node. Labels are closed sets.
type metrics struct {
	proposals *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	stored    prometheus.Counter
	applied   prometheus.Counter
	rollbacks prometheus.Counter
}

func newMetrics(s *Store, r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	gauge := func(name, help string, get func(Status) float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return get(s.Status()) })
	}
	gauge("is_leader", "1 on the leader.", func(st Status) float64 { return oneIf(st.State == "leader") })
	gauge("has_leader", "1 if the node knows of a leader.", func(st Status) float64 { return oneIf(st.Leader != "") })
	gauge("term", "Raft's term.", func(st Status) float64 { return float64(st.Term) })
	gauge("commit_index", "Last committed entry.", func(st Status) float64 { return float64(st.Commit) })
	gauge("applied_index", "Last applied entry.", func(st Status) float64 { return float64(st.Applied) })
	gauge("last_index", "Last entry of the log.", func(st Status) float64 { return float64(st.Last) })
	gauge("snapshot_index", "Index of the newest raft snapshot.", func(st Status) float64 { return float64(st.Snapshot) })
	gauge("store_stalled", "1 while a write to disk hangs.", func(st Status) float64 { return oneIf(st.Stalled) })
	gauge("replica_lag_entries", "On the leader, how far the slowest member is behind.", lag)
	return &metrics{
		proposals: f.NewCounterVec(prometheus.CounterOpts{Name: "proposals_total", Help: "Commands proposed here."}, []string{"result"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "propose_seconds", Help: "Time of a proposal.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"result"}),
		stored:    f.NewCounter(prometheus.CounterOpts{Name: "log_entries_total", Help: "Entries appended to this node's log."}),
		applied:   f.NewCounter(prometheus.CounterOpts{Name: "applied_entries_total", Help: "Entries applied on this node."}),
		rollbacks: f.NewCounter(prometheus.CounterOpts{Name: "rollback_detected_total", Help: "Connections refused to a peer with an old or copied disk."}),
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func lag(st Status) float64 {
	if st.State != "leader" {
		return 0
	}
	var worst uint64
	for _, m := range st.Members {
		if m.Acked < st.Commit {
			worst = max(worst, st.Commit-m.Acked)
		}
	}
	return float64(worst)
}

func (m *metrics) storedEntries(n int)  { m.stored.Add(float64(n)) }
func (m *metrics) appliedEntries(n int) { m.applied.Add(float64(n)) }

func (m *metrics) rolledBack() { m.rollbacks.Inc() }

func (m *metrics) proposed(err error, took time.Duration) {
	result := "ok"
	switch {
	case errors.Is(err, ErrNoEffect):
		result = "refused"
	case err != nil:
		result = "unknown"
	}
	m.proposals.WithLabelValues(result).Inc()
	m.seconds.WithLabelValues(result).Observe(took.Seconds())
}
