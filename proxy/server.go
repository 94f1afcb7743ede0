package proxy

import (
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Limits that hold against slow and greedy clients.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 16 << 10

	// bodyTimeout is how long a body may stand still in either direction. There
	// is no limit on the whole: an upload of 5 GiB over a slow line takes hours.
	bodyTimeout = 60 * time.Second
)

// Server returns an http.Server for h with the limits that an S3 endpoint needs.
// The caller sets the listener, TLS and BaseContext.
func Server(h http.Handler, log *zap.Logger) *http.Server {
	if log == nil {
		log = zap.NewNop()
	}
	errorLog, _ := zap.NewStdLogAt(log, zap.DebugLevel) // fails only for an unknown level
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		ErrorLog:          errorLog, // what clients do wrong: of interest to nobody
	}
}
