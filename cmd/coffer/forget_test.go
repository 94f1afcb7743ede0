package main

import (
	"testing"
	"time"
)

func TestParseWithin(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"": 0, "7d": 7 * day, "1y5m7d2h": (365+5*30+7)*day + 2*time.Hour, "36h": 36 * time.Hour, "2m": 60 * day,
		"7": -1, "d": -1, "2h1d": -1, "-1d": -1, "1.5d": -1, "99999y": -1, "1w": -1, "999999999999999999999h": -1,
	} {
		got, err := parseWithin(s)
		if want >= 0 && (err != nil || got != want) || want < 0 && err == nil {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
}
