package vault

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics count what a node does. No label ever names an account.
type metrics struct {
	requests     *prometheus.CounterVec // by kind and code
	seconds      *prometheus.HistogramVec
	spends       prometheus.Counter
	evaluations  prometheus.Counter
	shredded     prometheus.Counter
	regressions  prometheus.Counter
	unauthorised *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "requests_total", Help: "Requests of clients, by kind and code of the answer."}, []string{"kind", "code"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "request_duration_seconds", Help: "Time to answer, by kind.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"kind"}),
		spends: f.NewCounter(prometheus.CounterOpts{
			Name: "attempts_total", Help: "Attempts that this node's ledger counted."}),
		evaluations: f.NewCounter(prometheus.CounterOpts{
			Name: "evaluations_total", Help: "Evaluations of guesses by this node's HSM, repeated ones included."}),
		shredded: f.NewCounter(prometheus.CounterOpts{
			Name: "keys_destroyed_total", Help: "Keys of ended epochs that this node has destroyed."}),
		regressions: f.NewCounter(prometheus.CounterOpts{
			Name: "counter_regressions_total", Help: "Times the replicated state was behind this node's ledger. Alarm above 0."}),
		unauthorised: f.NewCounterVec(prometheus.CounterOpts{
			Name: "unauthorised_total", Help: "Things in the replicated state that no client authorised. Alarm above 0."}, []string{"what"}),
	}
}

var kindNames = map[Kind]string{
	KindRecord: "record", KindStart: "start", KindKey: "key", KindCommit: "commit", KindReceipt: "receipt",
	KindAttempt: "attempt", KindEval: "eval", KindProve: "prove", KindDisable: "disable", KindSweep: "sweep", KindHead: "head", KindState: "state",
}

var codeNames = [...]string{
	CodeOK: "ok", CodeDenied: "denied", CodeNotLeader: "not_leader", CodeRetry: "retry", CodeMalformed: "malformed",
	CodeNone: "none", CodeDestroyed: "destroyed", CodeWait: "wait", CodeConflict: "conflict", CodeSignature: "signature",
	CodeStale: "stale", CodeWorn: "worn", CodeManifest: "manifest", CodeLimited: "limited",
	CodeRegression: "regression", CodeHalted: "halted",
}

// String names the code as logs, metrics and PROTOCOL.md do.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}
