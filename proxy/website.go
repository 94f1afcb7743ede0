package proxy

import (
	"cmp"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	websiteDocument = "website"     // XML as the client gave it
	websiteHost     = "s3-website." // BUCKET.s3-website.DOMAIN shows the site of a bucket
	maxWebsite      = 128 << 10     // bytes
	maxRoutingRules = 50
)

// websiteXML says how the objects of a bucket are shown to browsers.
type websiteXML struct {
	XMLName xml.Name         `xml:"WebsiteConfiguration"`
	Index   *websiteIndex    `xml:"IndexDocument"`
	Error   *websiteError    `xml:"ErrorDocument"`
	All     *websiteRedirect `xml:"RedirectAllRequestsTo"`
	Rules   []websiteRule    `xml:"RoutingRules>RoutingRule"`
}

type websiteIndex struct{ Suffix string }

type websiteError struct{ Key string }

type websiteRule struct {
	Condition *websiteCondition
	Redirect  websiteRedirect
}

type websiteCondition struct {
	Prefix string `xml:"KeyPrefixEquals"`
	Code   string `xml:"HttpErrorCodeReturnedEquals"`
}

type websiteRedirect struct {
	Host     string `xml:"HostName"`
	Protocol string
	Code     string  `xml:"HttpRedirectCode"`
	Prefix   *string `xml:"ReplaceKeyPrefixWith"` // may be empty
	Key      string  `xml:"ReplaceKeyWith"`
}

func (c *websiteXML) check() error {
	switch {
	case c.All != nil:
		if c.Index != nil || c.Error != nil || len(c.Rules) > 0 || c.All.Host == "" {
			return errMalformedXML
		}
		return c.All.check()
	case c.Index == nil:
		return errMalformedXML
	case c.Index.Suffix == "" || strings.Contains(c.Index.Suffix, "/"):
		return badArgument("IndexDocument", c.Index.Suffix, "The IndexDocument Suffix is not well formed")
	case c.Error != nil && c.Error.Key == "":
		return badArgument("ErrorDocument", "", "The ErrorDocument Key is not well formed")
	case len(c.Rules) > maxRoutingRules:
		return errInvalidRequest.saying("%d routing rules provided, the number of routing rules in a website configuration is limited to 50.", len(c.Rules))
	}
	for i := range c.Rules {
		rule := &c.Rules[i]
		if rule.Redirect == (websiteRedirect{}) || rule.Condition != nil && *rule.Condition == (websiteCondition{}) {
			return errMalformedXML
		}
		if err := rule.Redirect.check(); err != nil {
			return err
		}
		if rule.Condition == nil || rule.Condition.Code == "" {
			continue
		}
		code, err := strconv.Atoi(rule.Condition.Code)
		if err != nil {
			return errMalformedXML
		}
		if code < 400 || code > 417 && code < 500 || code > 505 {
			return errInvalidRequest.saying("The provided HTTP error code (%d) is not valid. Valid codes are 4XX or 5XX.", code)
		}
	}
	return nil
}

func (r *websiteRedirect) check() error {
	switch {
	case r.Prefix != nil && r.Key != "":
		return errInvalidRequest.saying("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
	case !slices.Contains([]string{"", "http", "https"}, r.Protocol):
		return errInvalidRequest.saying("Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.")
	case r.Code == "":
		return nil
	}
	code, err := strconv.Atoi(r.Code)
	if err != nil {
		return errMalformedXML
	}
	if code < 301 || code > 308 || code == 306 {
		return errInvalidRequest.saying("The provided HTTP redirect code (%d) is not valid. Valid codes are 3XX except 300.", code)
	}
	return nil
}

func (p *Proxy) getWebsite(w http.ResponseWriter, rq *request) error {
	return sendDocument(w, rq, websiteDocument, errNoSuchWebsite, "application/xml")
}

func (p *Proxy) putWebsite(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	if !p.public {
		return errNotImplemented.saying("A website is public, and the gateway is not set to allow that.")
	}
	raw, err := p.readSmall(rq, maxXML)
	if err != nil {
		return err
	}
	if len(raw) > maxWebsite {
		return (&failure{code: "MaxMessageLengthExceeded", status: 400, message: "Your request was too big."}).with("MaxMessageLengthBytes", strconv.Itoa(maxWebsite))
	}
	var c websiteXML
	if err := parseXML(raw, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	return p.keepDocument(w, rq, websiteDocument, raw, http.StatusOK)
}

func (p *Proxy) deleteWebsite(w http.ResponseWriter, rq *request) error {
	return p.keepDocument(w, rq, websiteDocument, nil, http.StatusNoContent)
}

// isWebsite reports whether rq is for the site of a bucket, and of which.
func (p *Proxy) isWebsite(rq *request) (bucket string, ok bool) {
	if !p.public {
		return "", false
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(p.pathStyle(rq.Request).Path, "/"), "/")
	bucket, ok = strings.CutSuffix(bucket, "."+strings.TrimSuffix(websiteHost, "."))
	return bucket, ok && "/"+key == cmp.Or(rq.URL.Path, "/") // it was in the host's name
}

// serveWebsite answers a browser, which signs nothing, from the site of a bucket.
func (p *Proxy) serveWebsite(w http.ResponseWriter, rq *request) error {
	rq.op = &operation{name: "GetObject"}
	if rq.Method != http.MethodGet && rq.Method != http.MethodHead {
		return errMethodNotAllowed
	}
	rq.who, rq.query = &identity{anonymous: true}, url.Values{}
	leave, err := p.enter(rq)
	if err != nil {
		return err
	}
	defer leave()
	if rq.ix, err = p.open(rq.Context()); err != nil {
		return err
	}
	raw, err := rq.document(websiteDocument, errNoSuchWebsite)
	if err != nil {
		return err
	}
	var c websiteXML
	if err := parseXML(raw, &c); err != nil {
		return err
	}
	p.allowOrigin(w, rq)
	key := strings.TrimPrefix(rq.URL.Path, "/")
	if c.All != nil {
		return c.All.send(w, rq, key, "")
	}
	for _, rule := range c.Rules {
		if when := rule.Condition; when != nil && when.Code == "" && strings.HasPrefix(key, when.Prefix) {
			return rule.Redirect.send(w, rq, key, when.Prefix)
		}
	}
	return p.showPage(w, rq, &c, key)
}

// showPage sends the object for key, or what the site has for an error.
func (p *Proxy) showPage(w http.ResponseWriter, rq *request, c *websiteXML, key string) error {
	page := key
	if page == "" || strings.HasSuffix(page, "/") {
		page += c.Index.Suffix
	}
	f, err := p.findPage(w, rq, page)
	if err == nil {
		if to := f.row.Headers[redirectLocation]; to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusMovedPermanently)
			return nil
		}
		return p.sendObject(w, rq, f)
	}
	if _, index := p.findPage(w, rq, key+"/"+c.Index.Suffix); errors.Is(err, errNoSuchKey) && page == key && index == nil {
		w.Header().Set("Location", (&url.URL{Path: "/" + key + "/"}).EscapedPath())
		w.WriteHeader(http.StatusFound)
		return nil
	}
	status := p.failed(err).status
	for _, rule := range c.Rules {
		when := cmp.Or(rule.Condition, &websiteCondition{})
		if (rule.Condition == nil || when.Code == strconv.Itoa(status)) && strings.HasPrefix(key, when.Prefix) {
			return rule.Redirect.send(w, rq, key, when.Prefix)
		}
	}
	if c.Error == nil || status >= 500 {
		return err
	}
	f, missing := p.findPage(w, rq, c.Error.Key)
	if missing != nil {
		return err
	}
	plain := *rq
	plain.Request = rq.Clone(rq.Context())
	plain.Header = nil // no range of it, and whatever its ETag
	return p.sendObject(&withStatus{w, status}, &plain, f)
}

func (p *Proxy) findPage(w http.ResponseWriter, rq *request, key string) (*found, error) {
	if !validKey(key) || key == "" || len(key) > maxKey {
		return nil, errNoSuchKey
	}
	rq.key = key
	if err := p.permit(rq); err != nil {
		return nil, err
	}
	return p.find(w.Header(), rq)
}

// send redirects a request for key, of which matched is the prefix of the rule.
func (r *websiteRedirect) send(w http.ResponseWriter, rq *request, key, matched string) error {
	switch {
	case r.Key != "":
		key = r.Key
	case r.Prefix != nil:
		key = *r.Prefix + strings.TrimPrefix(key, matched)
	}
	scheme := "http"
	if rq.TLS != nil {
		scheme = "https"
	}
	to := url.URL{Scheme: cmp.Or(r.Protocol, scheme), Host: cmp.Or(r.Host, rq.Host), Path: "/" + key, RawQuery: rq.URL.RawQuery}
	status, _ := strconv.Atoi(cmp.Or(r.Code, "301")) // it was checked when it came
	w.Header().Set("Location", to.String())
	w.WriteHeader(status)
	return nil
}

// withStatus answers with another status than 200.
type withStatus struct {
	http.ResponseWriter
	status int
}

func (w *withStatus) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }
