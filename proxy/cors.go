package proxy

import "net/http"

func (p *Proxy) getCORS(w http.ResponseWriter, rq *request) error {
	return absent(errNoSuchCORS)(p, w, rq)
}
func (p *Proxy) putCORS(http.ResponseWriter, *request) error         { return errNotImplemented }
func (p *Proxy) deleteCORS(w http.ResponseWriter, rq *request) error { return nothingThere(p, w, rq) }
func (p *Proxy) preflight(http.ResponseWriter, *request) error       { return errAccessDenied }
func (p *Proxy) allowOrigin(http.ResponseWriter, *request)           {}
func isPostForm(*request) bool                                       { return false }
func (p *Proxy) postForm(http.ResponseWriter, *request) error        { return errNotImplemented }
