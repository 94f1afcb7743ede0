package main

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/daemon"
	"coffer/daemon/notify"
	"coffer/daemon/power"
	"coffer/internal/config"
	"coffer/internal/telemetry"
	"coffer/upstream"
)

// reloader reads the configuration again while the daemon runs. A file with a
// fault changes nothing. [live] says what takes effect at once.
type reloader struct {
	start
	gateway *gateway
	repo    *repository
	people  *notify.Notifier
	supply  *power.Watcher
	systemd *telemetry.Notifier
	ok, at  prometheus.Gauge

	d *daemon.Daemon // set before the first reload

	mu sync.Mutex // one reload at a time
}

func newReloader(s start, g *gateway, repo *repository, people *notify.Notifier, supply *power.Watcher, systemd *telemetry.Notifier) *reloader {
	r := &reloader{start: s, gateway: g, repo: repo, people: people, supply: supply, systemd: systemd,
		ok: prometheus.NewGauge(prometheus.GaugeOpts{Name: "config_last_reload_success", Help: "1 when the configuration was last read without a fault."}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{Name: "config_last_reload_timestamp_seconds", Help: "When it was last read without a fault."})}
	telemetry.Prefix(s.reg, "").MustRegister(r.ok, r.at)
	r.ok.Set(1)
	r.at.SetToCurrentTime()
	return r
}

// run reloads on each SIGHUP.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			_, _ = r.d.ReloadConfig() // it is logged, and in the status
		}
	}
}

// reload reads the file, and the gateway's certificate and access keys.
func (r *reloader) reload() daemon.Configured {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.systemd.Reloading()
	defer r.systemd.Ready()
	next, err := config.LoadUser(r.file)
	if err == nil {
		err = errors.Join(r.apply(next), r.gateway.reload(next))
	}
	if err != nil {
		r.ok.Set(0)
		r.log.Error("configuration was not reloaded", zap.Error(err))
		return daemon.Configured{Error: err.Error()}
	}
	r.ok.Set(1)
	r.at.SetToCurrentTime()
	restart := differences(live(*r.c), live(*next))
	r.log.Info("configuration reloaded", zap.Int("sources", len(next.Sources)))
	if len(restart) > 0 {
		r.log.Warn("some of what has changed needs a restart", zap.Strings("settings", restart))
	}
	return daemon.Configured{Loaded: time.Now(), Restart: restart}
}

// apply has what takes effect at once take effect.
func (r *reloader) apply(next *config.User) error {
	level, err := zap.ParseAtomicLevel(next.Log.Level)
	if err != nil {
		return err
	}
	if err := r.d.Reload(sources(next), tasks(next, r.repo, r.log), notices(next)); err != nil {
		return err
	}
	r.level.SetLevel(level.Level())
	r.limits.Set(upstream.Windows(next.Limits))
	r.people.Reload(notifyConfig(next, r.log))
	r.supply.Reload(powerConfig(next, r.log))
	return nil
}

// live leaves of c what needs a restart.
func live(c config.User) config.User {
	c.Sources, c.Limits, c.Log.Level = nil, nil, ""
	c.Maintenance, c.Notify, c.Power = config.Maintenance{}, config.Notify{}, config.Power{}
	c.Gateway.Keys = nil
	return c
}

// differences names the settings at the top of the file that are not the same.
func differences(a, b config.User) (names []string) {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			name, _, _ := strings.Cut(va.Type().Field(i).Tag.Get("toml"), ",")
			names = append(names, name)
		}
	}
	return names
}
