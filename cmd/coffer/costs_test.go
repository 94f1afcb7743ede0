package main

import (
	"math"
	"testing"
	"time"

	"coffer/backup"
	"coffer/internal/config"
	"coffer/upstream"
)

// TestEstimate: this month's requests count, each at its price; an upstream
// without prices is not estimated.
func TestEstimate(t *testing.T) {
	u := &config.User{Upstreams: []config.Upstream{
		{Name: "cloud", Price: config.Price{Storage: 0.02, Write: 0.005, Read: 0.0004, Egress: 0.09}},
		{Name: "disk", Price: config.Price{Currency: "EUR"}},
	}}
	got := estimate(u, backup.Stats{Stored: 500e9}, []upstream.Requests{
		{Upstream: "cloud", Month: "2026-11", Write: 10_000, Read: 100_000, Free: 1e9, Received: 2e9, Sent: 1e12},
		{Upstream: "cloud", Month: "2026-10", Write: 1e9},
		{Upstream: "disk", Month: "2026-11", Write: 1e9},
	}, time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC))
	if len(got) != 1 || got[0].Upstream != "cloud" || got[0].Currency != "USD" || !near(got[0].Storage, 10) || !near(got[0].Requests, 0.05+0.04) || !near(got[0].Egress, 0.18) {
		t.Errorf("got %+v", got)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
