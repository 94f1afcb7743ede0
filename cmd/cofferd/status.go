package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/telemetry"
)

// tellStatus keeps the line that "systemctl status" shows up to date.
func tellStatus(ctx context.Context, d *daemon.Daemon, notify *telemetry.Notifier) error {
	events, cancel := d.Subscribe(0)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if e.Kind != daemon.Progress {
				notify.Status(d.Status().String())
			}
		}
	}
}

// newMetrics makes the local listener for metrics and health, if there is to be one.
func newMetrics(c *config.User, reg *prometheus.Registry, health *telemetry.Health, log *zap.Logger) (run func(context.Context) error, err error) {
	if c.Metrics.Listen == "" {
		return func(context.Context) error { return nil }, nil
	}
	s, err := telemetry.NewServer(telemetry.ServerConfig{Listen: c.Metrics.Listen, Registry: reg, Health: health, Log: log})
	if err != nil {
		return nil, err
	}
	return s.Run, nil
}
