package telemetry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"coffer/internal/serve"
)

// ServerConfig is what a [Server] needs.
type ServerConfig struct {
	Listen   string              // host:port, loopback only
	Registry prometheus.Gatherer // required
	Health   *Health             // required
	Log      *zap.Logger         // nil logs nothing
}

// Server answers /metrics, /livez, /readyz and /debug/pprof/ to this machine only:
// a profile shows what is in memory.
type Server struct {
	c   ServerConfig
	mux *http.ServeMux
}

// NewServer checks the address; it opens nothing.
func NewServer(c ServerConfig) (*Server, error) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("metrics listener %q: %w", c.Listen, err)
	}
	if !loopback(host) {
		return nil, fmt.Errorf("metrics listener %q: not a loopback address", c.Listen)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	s := &Server{c, http.NewServeMux()}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{}))
	s.mux.Handle("GET /livez", answer(c.Health.CheckLive))
	s.mux.Handle("GET /readyz", answer(c.Health.CheckReady))
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return s, nil
}

// ServeHTTP refuses a Host that is not of this machine, which a page in a
// browser would send after rebinding its name to the loopback address.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if !loopback(host) {
		http.Error(w, "not a name of this machine", http.StatusMisdirectedRequest)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.mux.ServeHTTP(w, r)
}

// Run listens until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.c.Listen)
	if err != nil {
		return fmt.Errorf("metrics listener: %w", err)
	}
	s.c.Log.Info("metrics", zap.Stringer("listen", l.Addr()))
	return serve.HTTP(ctx, l, &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}, time.Second)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func answer(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}
