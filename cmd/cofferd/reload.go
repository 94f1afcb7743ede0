package main

import (
	"context"
	"errors"
	"os"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/telemetry"
)

// reload reads the configuration and the gateway's certificate again on each
// SIGHUP. The sources change at once; for the rest the log says that a restart is needed. A file with a fault
// changes nothing.
func reload(ctx context.Context, hup <-chan os.Signal, file string, c *config.User, d *daemon.Daemon, g *gateway, notify *telemetry.Notifier, log *zap.Logger, reg prometheus.Registerer) error {
	ok := prometheus.NewGauge(prometheus.GaugeOpts{Name: "config_last_reload_success", Help: "1 when the configuration was last read without a fault."})
	at := prometheus.NewGauge(prometheus.GaugeOpts{Name: "config_last_reload_timestamp_seconds", Help: "When it was last read without a fault."})
	telemetry.Prefix(reg, "").MustRegister(ok, at)
	ok.Set(1)
	at.SetToCurrentTime()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		notify.Reloading()
		next, err := config.LoadUser(file)
		if err == nil {
			err = errors.Join(d.Reload(sources(next)), g.reload())
		}
		if err != nil {
			ok.Set(0)
			log.Error("configuration was not reloaded", zap.Error(err))
		} else {
			ok.Set(1)
			at.SetToCurrentTime()
			log.Info("configuration reloaded", zap.Int("sources", len(next.Sources)))
			if same := *next; !reflect.DeepEqual(withoutSources(same), withoutSources(*c)) {
				log.Warn("more than the sources has changed: that needs a restart")
			}
		}
		notify.Ready()
	}
}

func withoutSources(c config.User) config.User {
	c.Sources = nil
	return c
}

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
