package main

import (
	"context"
	"fmt"
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
	if len(c.Upstreams) == 1 {
		b, err = openUpstream(upstreamConfig(c.Upstreams[0], limits, log, metrics))
		return b, func(context.Context) error { return nil }, err
	}
	// The command keeps the same journal: see "coffer check --mirrors".
	m := upstream.MembersConfig{Marker: keyring.ProfileName, Journal: filepath.Join(c.StateDir, "mirrors"), Log: log.Named("upstream")}
	for _, u := range c.Upstreams {
		m.Names = append(m.Names, u.Name)
		m.Members = append(m.Members, upstreamConfig(u, limits, log, prometheus.WrapRegistererWith(prometheus.Labels{"upstream": u.Name}, metrics)))
	}
	if err := durable.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the state folder: %w", err)
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

func openUpstream(c upstream.Config) (upstream.Bucket, error) {
	if c.Type == "folder" {
		return upstream.NewFolder(c.Path)
	}
	return upstream.NewS3(c)
}
