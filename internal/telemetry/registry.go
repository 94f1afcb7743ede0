package telemetry

import (
	"runtime"

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

// Prefix registers in r under "coffer_part_".
func Prefix(r prometheus.Registerer, part string) prometheus.Registerer {
	return prometheus.WrapRegistererWithPrefix("coffer_"+part+"_", r)
}
