package proxy

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// identity is who signed a request.
type identity struct {
	key     AccessKey
	signing atomic.Pointer[scopeKey] // the last one used: it changes once a day

	anonymous bool // nobody: key is empty
}

// scopeKey is the key that signs for a scope.
type scopeKey struct {
	scope scope
	key   []byte
}

// signingKey returns the key that signs for s, which is not to be changed; nobody
// has one as well.
func (id *identity) signingKey(s scope) []byte {
	if id == nil {
		return signingKey("no such access key", s)
	}
	if last := id.signing.Load(); last != nil && last.scope == s {
		return last.key
	}
	key := signingKey(id.key.Secret.reveal(), s)
	id.signing.Store(&scopeKey{s, key})
	return key
}

// mayUse reports whether the key is good for bucket.
func (id *identity) mayUse(bucket string) bool {
	if id.anonymous {
		return false
	}
	if len(id.key.Buckets) == 0 {
		return true
	}
	return slices.ContainsFunc(id.key.Buckets, func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(bucket, prefix)
		}
		return pattern == bucket
	})
}

func (id *identity) mayWrite() bool { return id.key.Rights != "read" }

// payloadKind is how the body of a request is framed and authenticated.
type payloadKind int

const (
	payloadUnsigned        payloadKind = iota // plain bytes, protected by the channel only
	payloadHash                               // plain bytes of a known SHA-256
	payloadChunks                             // signed chunks
	payloadChunksTrailer                      // signed chunks and a signed trailer
	payloadUnsignedTrailer                    // chunks and a trailer, not signed
)

// The values of X-Amz-Content-Sha256 that are not a hash.
const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	emptySHA256     = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

var payloadKinds = map[string]payloadKind{
	unsignedPayload:                              payloadUnsigned,
	"STREAMING-AWS4-HMAC-SHA256-PAYLOAD":         payloadChunks,
	"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": payloadChunksTrailer,
	"STREAMING-UNSIGNED-PAYLOAD-TRAILER":         payloadUnsignedTrailer,
}

// payload says how the body of an authenticated request is to be read.
type payload struct {
	kind   payloadKind
	sum    []byte       // payloadHash: what it must be
	text   string       // payloadHash: as the client wrote it
	signer *chunkSigner // payloadChunks and payloadChunksTrailer
}

func parsePayload(value string) (payload, error) {
	if kind, ok := payloadKinds[value]; ok {
		return payload{kind: kind}, nil
	}
	sum, err := hex.DecodeString(value)
	if err != nil || len(sum) != 32 {
		return payload{}, badArgument("x-amz-content-sha256", value, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.")
	}
	return payload{kind: payloadHash, sum: sum, text: value}, nil
}

// authenticate finds out who signed r, before a byte of the body is read.
func (p *Proxy) authenticate(r *http.Request, q url.Values) (*identity, payload, error) {
	switch {
	case q.Has("X-Amz-Security-Token"):
		return nil, payload{}, errInvalidToken // access keys here are permanent
	case r.Header.Get("Authorization") != "":
		return p.authenticateHeader(r)
	case q.Has("X-Amz-Algorithm") || q.Has("X-Amz-Signature") || q.Has("X-Amz-Credential"):
		return p.authenticateQuery(r, q)
	case q.Has("AWSAccessKeyId") && q.Has("Signature"):
		return p.authenticateV2(r, q)
	}
	return p.anonymous(r)
}

func (p *Proxy) authenticateHeader(r *http.Request) (*identity, payload, error) {
	s, err := parseAuthorization(r)
	if err != nil {
		return nil, payload{}, err
	}
	declared := r.Header.Get("X-Amz-Content-Sha256")
	if declared == "" {
		return nil, payload{}, errInvalidRequest.saying("Missing required header for this request: x-amz-content-sha256")
	}
	return p.verified(r, s, declared)
}

func (p *Proxy) authenticateQuery(r *http.Request, q url.Values) (*identity, payload, error) {
	s, err := parsePresigned(q)
	if err != nil {
		return nil, payload{}, err
	}
	declared := unsignedPayload
	if v := r.Header.Get("X-Amz-Content-Sha256"); v != "" {
		declared = v
	} else if v := q.Get("X-Amz-Content-Sha256"); v != "" {
		declared = v
	}
	return p.verified(r, s, declared)
}

// verified checks a parsed signature against the secret of its access key.
func (p *Proxy) verified(r *http.Request, s *signature, declared string) (*identity, payload, error) {
	if s.scope.region != p.region {
		return nil, payload{}, s.malformed("the region %q is wrong; expecting %q", s.scope.region, p.region).with("Region", p.region)
	}
	if err := s.checkTime(p.now()); err != nil {
		return nil, payload{}, err
	}
	if err := s.checkHeaders(r.Header); err != nil {
		return nil, payload{}, err
	}
	pay, err := parsePayload(declared)
	if err != nil {
		return nil, payload{}, err
	}
	id := p.identity(s.accessKey)
	key := id.signingKey(s.scope)
	ok := s.verify(r, key, declared)
	switch {
	case id == nil:
		return nil, payload{}, errInvalidAccessKey.with("AWSAccessKeyId", s.accessKey)
	case !ok:
		return nil, payload{}, errSignatureMismatch.with("AWSAccessKeyId", s.accessKey)
	}
	if pay.kind == payloadChunks || pay.kind == payloadChunksTrailer {
		pay.signer = &chunkSigner{
			key: key, date: s.time.UTC().Format(amzDateLayout), scope: s.scope.String(), previous: hex.EncodeToString(s.value),
		}
	}
	return id, pay, nil
}

// subresources are the query parameters that SigV2 signs.
var subresources = []string{
	"acl", "cors", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy", "requestPayment",
	"response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
	"response-content-type", "response-expires", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning",
	"versions", "website",
}

// authenticateV2 checks a presigned URL of the old kind: boto3 makes them by
// default for any endpoint that is not Amazon's.
func (p *Proxy) authenticateV2(r *http.Request, q url.Values) (*identity, payload, error) {
	id := p.identity(q.Get("AWSAccessKeyId"))
	secret := "no such access key"
	if id != nil {
		secret = id.key.Secret.reveal()
	}
	expires, err := strconv.ParseInt(q.Get("Expires"), 10, 64)
	if err != nil {
		return nil, payload{}, errAccessDenied.saying("Invalid date (should be seconds since epoch): %s", q.Get("Expires"))
	}
	got, err := base64.StdEncoding.DecodeString(q.Get("Signature"))
	ok := err == nil
	match := false
	for _, resource := range canonicalPaths(p.pathStyle(r)) {
		mac := hmac.New(sha1.New, []byte(secret))
		text, bare := stringToSignV2(r, q, resource)
		mac.Write([]byte(text))
		match = hmac.Equal(mac.Sum(nil), got) && bare || match
	}
	switch {
	case !ok || len(got) != sha1.Size: // no signature of any kind that is known
		return nil, payload{}, errUnsupportedSignature
	case id == nil:
		return nil, payload{}, errInvalidAccessKey
	case !match:
		return nil, payload{}, errSignatureMismatch
	case p.now().After(time.Unix(expires, 0)):
		return nil, payload{}, errExpiredToken
	}
	return id, payload{kind: payloadUnsigned}, nil
}

// stringToSignV2 is what signs r of the old kind. Nothing escapes its parts, so ok is
// false if one has a control byte: a line break in a value would make it read as
// another request, and who lets people choose a value would sign that.
func stringToSignV2(r *http.Request, q url.Values, resource string) (text string, ok bool) {
	ok = true
	bare := func(s string) string {
		ok = ok && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
		return s
	}
	var amz []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			amz = append(amz, bare(name+":"+strings.Join(values, ","))+"\n")
		}
	}
	for name, values := range q { // boto3 moves signed headers into the query
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && len(values) == 1 {
			amz = append(amz, bare(name+":"+values[0])+"\n")
		}
	}
	slices.Sort(amz)
	var signed []string
	for _, name := range subresources {
		if !q.Has(name) {
			continue
		}
		if v := q.Get(name); v != "" {
			name += "=" + v
		}
		signed = append(signed, bare(name))
	}
	if len(signed) > 0 {
		resource += "?" + strings.Join(signed, "&")
	}
	header := func(name string) string {
		if v := r.Header.Get(name); v != "" {
			return bare(v)
		}
		return bare(q.Get(name))
	}
	return r.Method + "\n" + header("Content-Md5") + "\n" + header("Content-Type") + "\n" + bare(q.Get("Expires")) + "\n" +
		strings.Join(amz, "") + resource, ok
}
