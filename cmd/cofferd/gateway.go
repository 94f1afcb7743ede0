package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"coffer/internal/config"
	"coffer/internal/secret"
	"coffer/internal/serve"
	"coffer/internal/telemetry"
	"coffer/proxy"
	"coffer/upstream"
)

const (
	gatewayDrain   = 60 * time.Second // for requests under way when the daemon stops
	maxConnections = 2048             // of clients of the gateway
)

// gateway is the S3 endpoint.
type gateway struct {
	proxy *proxy.Proxy // nil: there is no endpoint
	cert  *certificate // nil: plain HTTP
	plain bool         // which is allowed beyond loopback
	log   *zap.Logger
}

// newGateway makes the endpoint that is to serve on l; nil: there is none.
func newGateway(c *config.User, l net.Listener, b upstream.Bucket, repo *repository, log *zap.Logger, reg prometheus.Registerer) (*gateway, error) {
	g := &gateway{plain: c.Gateway.AllowPlain, log: log.Named("gateway")}
	if l == nil {
		return g, nil
	}
	if c.Gateway.TLSCert != "" {
		var err error
		if g.cert, err = newCertificate(c.Gateway.TLSCert, c.Gateway.TLSKey, g.log); err != nil {
			return nil, err
		}
	}
	pc := proxy.Config{
		Bucket: b, Keys: repo, StateDir: filepath.Join(c.StateDir, "gateway"), Snapshots: &snapshotTree{repo: repo},
		Region: c.Gateway.Region, Names: c.Gateway.Names, ETag: c.Gateway.ETag, Public: c.Gateway.Public,
		Log: g.log, Metrics: telemetry.Prefix(reg, "s3"),
	}
	var err error
	if pc.Access, err = accessKeys(c); err != nil {
		return nil, err
	}
	p, err := proxy.New(pc)
	if err != nil {
		return nil, err
	}
	g.proxy = p
	return g, nil
}

// accessKeys reads the secrets of those whom c lets in.
func accessKeys(c *config.User) ([]proxy.AccessKey, error) {
	var keys []proxy.AccessKey
	for _, k := range c.Gateway.Keys {
		key, err := secret.Read(k.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("secret of access key %s: %w", k.AccessKey, err)
		}
		keys = append(keys, proxy.AccessKey{ID: k.AccessKey, Secret: proxy.NewSecret(key), Buckets: k.Buckets, Rights: k.Rights})
	}
	return keys, nil
}

// run serves on l, of newGateway, until ctx ends. The proxy ends after the last
// request.
func (g *gateway) run(ctx context.Context, l net.Listener) error {
	if l == nil {
		return nil
	}
	if g.cert == nil && !g.plain && beyondLoopback(l.Addr()) { // a socket of systemd's; that of listen is checked already
		l.Close()
		return &exitError{fmt.Errorf("the gateway's socket %s can be reached from other machines", l.Addr()), exitConfig, "that needs gateway.tls_cert and tls_key, or allow_plain = true"}
	}
	g.log.Info("gateway", zap.Stringer("listen", l.Addr()), zap.Bool("tls", g.cert != nil))
	l = netutil.LimitListener(l, maxConnections)
	if g.cert != nil {
		l = tls.NewListener(l, &tls.Config{GetCertificate: g.cert.get, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var parts errgroup.Group
	parts.Go(func() error {
		defer end()
		return serve.HTTP(ctx, l, proxy.Server(g.proxy, g.log), gatewayDrain)
	})
	parts.Go(func() error { return g.proxy.Run(life) })
	return parts.Wait()
}

// reload takes over what may change without a restart: the certificate and the
// access keys.
func (g *gateway) reload(c *config.User) error {
	if g.cert != nil {
		if err := g.cert.reload(); err != nil {
			return err
		}
	}
	if g.proxy == nil {
		return nil
	}
	keys, err := accessKeys(c)
	if err != nil {
		return err
	}
	return g.proxy.SetAccess(keys)
}

func beyondLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}
