package web

import (
	"net/http"
	"strings"
)

// gateway shows the S3 endpoint and who may use it; no secret.
func (w *Web) gateway(rw http.ResponseWriter, r *http.Request) {
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
	w.render(rw, r, http.StatusOK, "gateway", page{Title: "Gateway", View: "/gateway", Body: struct {
		Gateway
		Rows []key
	}{w.c.Gateway, keys}})
}
