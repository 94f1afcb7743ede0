package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
)

// gateway shows the S3 endpoint and who may use it; no secret.
func (w *Web) gateway(rw http.ResponseWriter, r *http.Request) {
	buckets, problem := w.buckets(r.Context())
	type key struct{ ID, Buckets, Rights string }
	var keys []key
	for _, k := range w.c.Gateway.Keys {
		v := key{printable(k.ID), "all buckets", "read and write"}
		if len(k.Buckets) > 0 {
			v.Buckets = printable(strings.Join(k.Buckets, ", "))
		}
		if k.Rights == "read" {
			v.Rights = "read only"
		}
		keys = append(keys, v)
	}
	w.render(rw, r, http.StatusOK, "gateway", page{Title: "Gateway", View: "/gateway", Problem: problem, Body: struct {
		Gateway
		Rows []key
		List []bucketView
	}{w.c.Gateway, keys, buckets}})
}

// maxBuckets is how many buckets the view shows.
const maxBuckets = 200

type bucketView struct {
	Name    string
	Created stamp
	Keeps   string
}

// buckets lists those of the gateway.
func (w *Web) buckets(ctx context.Context) (views []bucketView, problem string) {
	if w.c.Gateway.Buckets == nil {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, repoTimeout)
	defer cancel()
	all, err := w.c.Gateway.Buckets(ctx, maxBuckets)
	switch {
	case errors.Is(err, daemon.ErrLocked):
		return nil, "The backup is locked, so the buckets cannot be read."
	case err != nil:
		w.log.Warn("web: buckets", zap.Error(err))
		return nil, "The buckets cannot be read at the moment; the log of the daemon says why."
	}
	now := time.Now()
	for _, b := range all {
		v := bucketView{printable(b.Name), moment(b.Created, now, ""), "the newest version of each object"}
		switch {
		case b.Lock:
			v.Keeps = "all versions, locked against deletion"
		case b.Versioning == "Enabled":
			v.Keeps = "all versions"
		case b.Versioning == "Suspended":
			v.Keeps = "versions made before; no new ones"
		}
		views = append(views, v)
	}
	return views, ""
}
