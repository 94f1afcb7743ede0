package telemetry

import (
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry makes a registry with the figures of the Go runtime, of the
// process and coffer_build_info. Packages name their metrics without a prefix;
// [Prefix] adds theirs.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "coffer_build_info",
		Help: "Always 1; the labels say which build runs.",
	}, []string{"version", "goversion"})
	info.WithLabelValues(version, runtime.Version()).Set(1)
	r.MustRegister(info)
	return r
}

// Prefix registers in r under "coffer_part_", or "coffer_" for no part.
func Prefix(r prometheus.Registerer, part string) prometheus.Registerer {
	if part != "" {
		part += "_"
	}
	return prometheus.WrapRegistererWithPrefix("coffer_"+part, r)
}

// Lease is a registerer whose collectors leave together: for a part that is made
// anew while the program runs.
type Lease struct {
	prometheus.Registerer
	mu   sync.Mutex
	held []prometheus.Collector
}

// Register implements [prometheus.Registerer].
func (l *Lease) Register(c prometheus.Collector) error {
	if err := l.Registerer.Register(c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, c)
	return nil
}

// MustRegister implements [prometheus.Registerer].
func (l *Lease) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := l.Register(c); err != nil {
			panic(err) // as the interface has it
		}
	}
}

// End removes what was registered since the last End.
func (l *Lease) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.held {
		l.Registerer.Unregister(c)
	}
	l.held = nil
}
