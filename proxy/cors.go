package proxy

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const corsDocument = "cors"

type corsXML struct {
	XMLName xml.Name   `xml:"CORSConfiguration"`
	Rules   []corsRule `xml:"CORSRule"`
}

type corsRule struct {
	ID             string   `xml:",omitempty"`
	AllowedHeaders []string `xml:"AllowedHeader"`
	AllowedMethods []string `xml:"AllowedMethod"`
	AllowedOrigins []string `xml:"AllowedOrigin"`
	ExposeHeaders  []string `xml:"ExposeHeader"`
	MaxAgeSeconds  *int     `xml:",omitempty"`
}

var corsMethods = []string{"GET", "PUT", "HEAD", "POST", "DELETE"}

// check refuses what a browser's question could never match.
func (c *corsXML) check() error {
	if len(c.Rules) == 0 || len(c.Rules) > 100 {
		return errMalformedXML
	}
	for _, rule := range c.Rules {
		if len(rule.AllowedMethods) == 0 || len(rule.AllowedOrigins) == 0 {
			return errMalformedXML
		}
		for _, m := range rule.AllowedMethods {
			if !slices.Contains(corsMethods, m) {
				return errInvalidRequest.saying("Found unsupported HTTP method in CORS config. Unsupported method is %s", m)
			}
		}
		for _, o := range rule.AllowedOrigins {
			if strings.Count(o, "*") > 1 {
				return errInvalidRequest.saying(`AllowedOrigin "%s" can not have more than one wildcard.`, o)
			}
		}
		for _, h := range slices.Concat(rule.AllowedHeaders, rule.ExposeHeaders) {
			if strings.Count(h, "*") > 1 || !isToken(strings.ReplaceAll(h, "*", "x")) {
				return errInvalidRequest.saying(`AllowedHeader "%s" contains invalid character.`, h)
			}
		}
	}
	return nil
}

// isToken reports whether s is the name of a header (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// match finds the rule that allows a request.
func (c *corsXML) match(origin, method string, headers []string) *corsRule {
	for i := range c.Rules {
		rule := &c.Rules[i]
		if slices.Contains(rule.AllowedMethods, method) &&
			slices.ContainsFunc(rule.AllowedOrigins, func(p string) bool { return wildcard(p, origin) }) &&
			!slices.ContainsFunc(headers, func(h string) bool {
				return !slices.ContainsFunc(rule.AllowedHeaders, func(p string) bool { return wildcard(strings.ToLower(p), strings.ToLower(h)) })
			}) {
			return rule
		}
	}
	return nil
}

// wildcard matches s against a pattern with at most one "*".
func wildcard(pattern, s string) bool {
	before, after, ok := strings.Cut(pattern, "*")
	if !ok {
		return pattern == s
	}
	return len(s) >= len(before)+len(after) && strings.HasPrefix(s, before) && strings.HasSuffix(s, after)
}

// tell sets the headers that allow origin what the rule says.
func (rule *corsRule) tell(h http.Header, origin string) {
	allowed := origin
	if slices.Contains(rule.AllowedOrigins, "*") {
		allowed = "*"
	} else {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Access-Control-Allow-Origin", allowed)
	h.Set("Access-Control-Allow-Methods", strings.Join(rule.AllowedMethods, ", "))
	if len(rule.ExposeHeaders) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(rule.ExposeHeaders, ", "))
	}
	if rule.MaxAgeSeconds != nil {
		h.Set("Access-Control-Max-Age", strconv.Itoa(*rule.MaxAgeSeconds))
	}
	h.Set("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
}

// cors reads the configuration of a bucket, nil if it has none.
func (b *bucketRow) cors() *corsXML {
	raw := b.Documents[corsDocument]
	if raw == nil {
		return nil
	}
	c := new(corsXML)
	if err := parseXML(raw, c); err != nil { // it was parsed when it came
		return nil
	}
	return c
}

// preflight answers a browser that asks what it may do. Nobody signs that.
func (p *Proxy) preflight(w http.ResponseWriter, rq *request) error {
	rq.op = &operation{name: "PreflightOptions"}
	origin, method := rq.Header.Get("Origin"), rq.Header.Get("Access-Control-Request-Method")
	if origin == "" {
		return &failure{code: "BadRequest", status: 400, message: "Insufficient information. Origin request header needed."}
	}
	if !slices.Contains(corsMethods, method) {
		return &failure{code: "BadRequest", status: 400, message: "Invalid Access-Control-Request-Method: " + method}
	}
	var asked []string
	for name := range strings.SplitSeq(rq.Header.Get("Access-Control-Request-Headers"), ",") {
		if trimmed := strings.TrimSpace(name); trimmed == "" {
			continue
		} else if asked = append(asked, trimmed); !isToken(trimmed) {
			return &failure{code: "BadRequest", status: 400, message: `Access-Control-Request-Headers "` + name + `" contains invalid character.`}
		}
	}
	ix, err := p.open(rq.Context())
	if err != nil {
		return err
	}
	b, err := ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	c := b.cors()
	if c == nil {
		return &failure{code: "AccessForbidden", status: 403, message: "CORSResponse: CORS is not enabled for this bucket."}
	}
	rule := c.match(origin, method, asked)
	if rule == nil {
		return &failure{code: "AccessForbidden", status: 403, message: "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, " +
			"request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."}
	}
	exposing := *rule
	if !slices.Contains(exposing.ExposeHeaders, "ETag") { // uploads in parts do not work without it
		exposing.ExposeHeaders = append(slices.Clone(exposing.ExposeHeaders), "ETag")
	}
	exposing.tell(w.Header(), origin)
	if w.Header().Get("Access-Control-Allow-Credentials") == "" {
		w.Header().Set("Access-Control-Allow-Credentials", "false") // what its absence says as well
	}
	if len(asked) > 0 {
		w.Header().Set("Access-Control-Allow-Headers", strings.ToLower(strings.Join(asked, ", ")))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// allowOrigin tells a browser that it may read the answer.
func (p *Proxy) allowOrigin(w http.ResponseWriter, rq *request) {
	origin := rq.Header.Get("Origin")
	if origin == "" {
		return
	}
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return // the operation says so
	}
	if c := b.cors(); c != nil {
		if rule := c.match(origin, rq.Method, nil); rule != nil {
			rule.tell(w.Header(), origin)
		}
	}
}

func (p *Proxy) getCORS(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	c := b.cors()
	if c == nil {
		return errNoSuchCORS
	}
	c.XMLName = xml.Name{Space: xmlNamespace, Local: "CORSConfiguration"}
	return writeXML(w, http.StatusOK, c)
}

func (p *Proxy) putCORS(w http.ResponseWriter, rq *request) error {
	raw, err := p.readSmall(rq, 64<<10)
	if err != nil {
		return err
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	var c corsXML
	if err := parseXML(raw, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	return p.keepDocument(w, rq, corsDocument, raw, http.StatusOK)
}

func (p *Proxy) deleteCORS(w http.ResponseWriter, rq *request) error {
	return p.keepDocument(w, rq, corsDocument, nil, http.StatusNoContent)
}

// keep keeps a document with the bucket; nil removes it.
func (b *bucketRow) keep(name string, raw []byte) {
	if raw == nil {
		delete(b.Documents, name)
		return
	}
	if b.Documents == nil {
		b.Documents = make(map[string][]byte)
	}
	b.Documents[name] = raw
}
