package main

import (
	"time"

	"coffer/daemon"
	"coffer/internal/calendar"
	"coffer/internal/config"
)

// sources translates the configuration for the daemon.
func sources(c *config.User) []daemon.Source {
	var all []daemon.Source
	for _, s := range c.Sources {
		all = append(all, daemon.Source{
			Name: s.Name, Path: s.Path, Exclude: s.Exclude, ExcludeLarger: int64(s.ExcludeLarger),
			ExcludeCaches: s.ExcludeCaches, OneFileSystem: s.OneFileSystem, Tags: s.Tags, ScanOnly: s.ScanOnly,
			Schedule: schedule(s), Overdue: max(time.Duration(s.Overdue), 0), AllowUnmounted: s.AllowUnmounted,
			Quiet: time.Duration(s.Quiet), MaxWait: time.Duration(s.MaxWait), Scan: time.Duration(s.Scan),
		})
	}
	return all
}

// schedule is checked when the configuration is read.
func schedule(s config.Source) calendar.Schedule {
	at, _ := calendar.Parse(s.Schedule)
	return at
}

// private lists what changes with each backup and must not be part of one.
func private(c *config.User) []string {
	all := []string{c.StateDir, c.CacheDir}
	for _, u := range c.Upstreams {
		if u.Type == "folder" {
			all = append(all, u.Path)
		}
	}
	return all
}
