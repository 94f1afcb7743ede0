package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/internal/telemetry"
	"coffer/keyring"
	"coffer/upstream"
)

// openUpstreams makes the storage ready; it does not ask it anything, as the
// network may come later. Several upstreams are mirrors, which run brings up to
// date until its context ends.
func openUpstreams(c *config.User, limits *upstream.Limits, log *zap.Logger, reg prometheus.Registerer) (b upstream.Bucket, run func(context.Context) error, err error) {
	metrics := telemetry.Prefix(reg, "store")
	if err := durable.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the state folder: %w", err)
	}
	if len(c.Upstreams) == 1 {
		uc, err := shared(c, c.Upstreams[0], limits, log, metrics)
		if err == nil {
			b, err = openUpstream(uc, c.Upstreams[0].Name)
		}
		return b, func(context.Context) error { return nil }, err
	}
	// The command keeps the same journal: see "coffer check --mirrors".
	m := upstream.MembersConfig{Marker: keyring.ProfileName, Journal: filepath.Join(c.StateDir, "mirrors"), Log: log.Named("upstream")}
	for _, u := range c.Upstreams {
		member, err := shared(c, u, limits, log, prometheus.WrapRegistererWith(prometheus.Labels{"upstream": u.Name}, metrics))
		if err != nil {
			return nil, nil, err
		}
		m.Names, m.Members = append(m.Names, u.Name), append(m.Members, member)
	}
	mirror, err := upstream.OpenMembers(m)
	if err != nil {
		return nil, nil, err
	}
	return mirror, mirror.Run, nil
}

func upstreamConfig(u config.Upstream, limits *upstream.Limits, log *zap.Logger, metrics prometheus.Registerer) upstream.Config {
	c := upstream.FromConfig(u, limits)
	c.Log, c.Metrics = log.Named("upstream"), metrics
	return c
}

// shared is the Config of one of the machine's upstreams. Its requests are counted
// together with those of the command: see "coffer stats".
func shared(c *config.User, u config.Upstream, limits *upstream.Limits, log *zap.Logger, metrics prometheus.Registerer) (uc upstream.Config, err error) {
	uc = upstreamConfig(u, limits, log, metrics)
	if u.Type == "s3" {
		uc.Tally, err = upstream.OpenTally(filepath.Join(c.StateDir, "requests"), u.Name)
	}
	return uc, err
}

func openUpstream(c upstream.Config, name string) (upstream.Bucket, error) {
	if c.Type == "folder" {
		f, err := upstream.OpenFolder(c.Path)
		if errors.Is(err, fs.ErrNotExist) { // its disk may be mounted later; until then nothing may go where it is not
			return upstream.OpenLater(name, c, keyring.ProfileName), nil
		}
		return f, err
	}
	return upstream.NewS3(c)
}
