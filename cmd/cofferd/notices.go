package main

import (
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
	"coffer/daemon/notify"
	"coffer/daemon/power"
	"coffer/internal/config"
)

// notices says when problems are told.
func notices(c *config.User) daemon.Notices {
	return daemon.Notices{After: time.Duration(c.Notify.After), Remind: max(time.Duration(c.Notify.Remind), 0)}
}

// notifyConfig says who is told.
func notifyConfig(c *config.User, log *zap.Logger) notify.Config {
	n, m := c.Notify, c.Notify.Mail
	nc := notify.Config{
		Host: c.Host, Details: n.Details, Desktop: n.Desktop, Pings: make(map[string]string), Log: log.Named("notify"),
		Webhook: notify.Webhook{URLFile: n.Webhook.URLFile, SecretFile: n.Webhook.SecretFile},
		Mail:    notify.Mail{Server: m.Server, TLS: m.TLS, CAFile: m.CAFile, User: m.User, PasswordFile: m.PasswordFile, From: m.From, To: m.To},
	}
	for _, s := range c.Sources {
		if s.PingFile != "" {
			nc.Pings[s.Name] = s.PingFile
		}
	}
	return nc
}

// powerConfig says when what begins by itself waits. Where all upstreams are
// folders the network does not count.
func powerConfig(c *config.User, log *zap.Logger) power.Config {
	pc := power.Config{Battery: *c.Power.Battery, Log: log.Named("power")}
	for _, u := range c.Upstreams {
		if u.Type != "folder" {
			pc.Metered = *c.Power.Metered
		}
	}
	return pc
}
