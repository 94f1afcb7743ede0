package main

import (
	"slices"
	"time"

	"coffer/bench"
)

// report prints the ratios of the medians, coffer's over restic's; it reports
// whether all are within their limits.
func (r *runner) report() bool {
	var ratios []bench.Ratio
	names := make([]string, 0, len(limits))
	for name := range limits {
		names = append(names, name)
	}
	slices.Sort(names)
	var peak int64
	for _, name := range names {
		ours, theirs := r.costs["coffer "+name], r.costs["restic "+name]
		if len(ours) == 0 {
			continue
		}
		wall := func(c bench.Cost) time.Duration { return c.Wall }
		requests := func(c bench.Cost) int64 { return c.Requests }
		sent := func(c bench.Cost) int64 { return c.Sent }
		ratios = append(ratios,
			bench.Ratio{What: name + "/wall", Value: float64(bench.Median(ours, wall)) / float64(bench.Median(theirs, wall)), Sign: "<=", Limit: limits[name]},
			bench.Ratio{What: name + "/requests", Value: float64(bench.Median(ours, requests)) / float64(max(1, bench.Median(theirs, requests))), Sign: "<=", Limit: 1})
		switch name {
		case "tree/first", "tree/prune":
			stored, than := r.stored["coffer "+name], r.stored["restic "+name]
			ratios = append(ratios,
				bench.Ratio{What: name + "/sent", Value: float64(bench.Median(ours, sent)) / float64(max(1, bench.Median(theirs, sent))), Sign: "<=", Limit: 1},
				bench.Ratio{What: name + "/stored", Value: float64(middle(stored)) / float64(middle(than)), Sign: "<=", Limit: 1})
		case "big/insert":
			ratios = append(ratios, bench.Ratio{What: name + "/sent-MB", Value: float64(bench.Median(ours, sent)) / 1e6, Sign: "<=", Limit: 2})
		}
		for _, c := range ours {
			peak = max(peak, c.PeakRSS)
		}
	}
	ratios = append(ratios, bench.Ratio{What: "coffer/peak-MiB", Value: float64(peak >> 20), Sign: "<=", Limit: 200})
	return bench.Print(ratios)
}

func middle(values []int64) int64 {
	slices.Sort(values)
	return values[len(values)/2]
}
