package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
	"coffer/daemon/web"
	"coffer/internal/config"
	"coffer/internal/serve"
	"coffer/keyring"
)

const webDrain = 5 * time.Second // for downloads under way when the daemon stops

// webPage is the local page, if there is to be one.
type webPage struct {
	file string // of c
	c    *config.User
	log  *zap.Logger
	web  atomic.Pointer[web.Web] // nil: it is not served
}

func newWebPage(file string, c *config.User, log *zap.Logger) *webPage {
	return &webPage{file: file, c: c, log: log.Named("web")}
}

// login makes a link for the daemon's owner.
func (p *webPage) login() (string, error) {
	if w := p.web.Load(); w != nil {
		return w.NewLoginURL(), nil
	}
	return "", daemon.ErrNoPage
}

// run serves until ctx ends. s3 is the gateway's socket, nil if there is none.
func (p *webPage) run(ctx context.Context, d *daemon.Daemon, repo *repository, g *gateway, s3 net.Listener) error {
	if p.c.Web.Listen == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.c.Web.Listen)
	if err != nil {
		return fmt.Errorf("local page: %w", err)
	}
	w, err := web.New(p.config(d, repo, g, l.Addr(), s3))
	if err != nil {
		l.Close()
		return err
	}
	p.web.Store(w)
	defer p.web.Store(nil)
	p.log.Info("local page", zap.Stringer("listen", l.Addr()))
	s := &http.Server{
		Handler: w, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10, ErrorLog: zap.NewStdLog(p.log),
	}
	defer context.AfterFunc(ctx, w.Stop)()
	return serve.HTTP(ctx, l, s, webDrain)
}

// config joins what the page shows.
func (p *webPage) config(d *daemon.Daemon, repo *repository, g *gateway, addr net.Addr, s3 net.Listener) web.Config {
	c := web.Config{
		Daemon: d, Open: repo.openForWeb, Addr: addr.String(), Log: p.log,
		Targets: p.targets(), Methods: methods(repo.Profile()), Gateway: p.gateway(s3),
		Folders:  folders{p.c},
		Excludes: excludes{p.file, d},
		Passkeys: newPasskeys(p.c.StateDir, repo.c.Bucket, repo.Ring, d),
		Doctor:   func(ctx context.Context) ([]web.Finding, error) { return askDoctor(ctx, p.file) },
	}
	if p.c.Vault.Fleet != "" {
		c.Vault = func(ctx context.Context) (web.Vault, error) { return askVault(ctx, p.c) }
	}
	if g.proxy != nil {
		c.Gateway.Buckets = func(ctx context.Context, limit int) ([]web.GatewayBucket, error) {
			return listBuckets(ctx, g, repo, limit)
		}
	}
	return c
}

// openForWeb is open, for one who reads.
func (r *repository) openForWeb(ctx context.Context) (web.Repo, error) {
	opened, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	repo, ok := opened.(web.Repo)
	if !ok {
		return nil, errors.New("the repository cannot be read") // *backup.Repo can
	}
	return repo, nil
}

// methods says how the backup key is kept.
func methods(p keyring.Profile) (all []web.Method) {
	for _, m := range p.Methods {
		all = append(all, web.Method{Kind: m.Kind, Since: m.Since, Fleet: m.Fleet})
	}
	return all
}

// gateway describes the S3 endpoint without the secrets.
func (p *webPage) gateway(s3 net.Listener) web.Gateway {
	if s3 == nil {
		return web.Gateway{}
	}
	c := p.c.Gateway
	scheme := "http://"
	if c.TLSCert != "" {
		scheme = "https://"
	}
	g := web.Gateway{URL: scheme + s3.Addr().String(), Region: c.Region, Names: c.Names, ETag: c.ETag}
	for _, k := range c.Keys {
		g.Keys = append(g.Keys, web.GatewayKey{ID: k.AccessKey, Buckets: k.Buckets, Rights: k.Rights})
	}
	return g
}

// targets are the upstreams.
func (p *webPage) targets() (all []web.Target) {
	for _, u := range p.c.Upstreams {
		t := web.Target{Name: u.Name, Kind: u.Type, Address: u.Path, Check: func(ctx context.Context) error { return checkUpstream(ctx, u) }}
		if u.Type != "folder" {
			t.Address = strings.TrimSuffix(u.Endpoint+"/"+u.Bucket+"/"+u.Prefix, "/")
		}
		all = append(all, t)
	}
	return all
}

// checkUpstream looks for the profile of the store.
func checkUpstream(ctx context.Context, u config.Upstream) error {
	b, err := openUpstream(upstreamConfig(u, nil, zap.NewNop(), nil), u.Name)
	if err != nil {
		return err
	}
	if c, ok := b.(io.Closer); ok {
		defer c.Close()
	}
	_, err = b.Head(ctx, keyring.ProfileName)
	return err
}
