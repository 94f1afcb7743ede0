package proxy

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxUserMeta = 2 << 10 // bytes in names and values of x-amz-meta-*
	maxTags     = 10
	metaPrefix  = "X-Amz-Meta-"
)

const redirectLocation = "x-amz-website-redirect-location"

// kept are the headers of a PUT that an object keeps and a GET gives back.
var kept = []string{
	"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires",
	"X-Amz-Website-Redirect-Location", "X-Amz-Storage-Class",
}

var storageClasses = []string{
	"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "EXPRESS_ONEZONE",
}

// attributes are what a client gives an object beside its bytes.
type attributes struct {
	headers map[string]string // of kept, lower case
	meta    map[string]string // user metadata, without x-amz-meta-
	tags    map[string]string
	lock    lockRequest
}

// readAttributes reads them from the headers of a request.
func readAttributes(h http.Header) (attributes, error) {
	a := attributes{headers: make(map[string]string), meta: make(map[string]string)}
	if err := refuseForeignEncryption(h); err != nil {
		return a, err
	}
	if err := refuseACL(h); err != nil {
		return a, err
	}
	for _, name := range kept {
		v := h.Get(name)
		if name == "Content-Encoding" {
			v = strings.Join(slices.DeleteFunc(splitList(v), func(s string) bool { return strings.EqualFold(s, "aws-chunked") }), ", ")
		}
		if name == "X-Amz-Storage-Class" {
			if v != "" && !slices.Contains(storageClasses, v) {
				return a, &failure{code: "InvalidStorageClass", status: 400, message: "The storage class you specified is not valid."}
			}
			if v == "STANDARD" {
				continue
			}
		}
		if name == "X-Amz-Website-Redirect-Location" && v != "" && v[0] != '/' && !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://") {
			return a, &failure{code: "InvalidRedirectLocation", status: 400, message: "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."}
		}
		if v != "" {
			a.headers[strings.ToLower(name)] = v
		}
	}
	size := 0
	for name, values := range h {
		rest, ok := strings.CutPrefix(name, metaPrefix)
		if !ok {
			continue
		}
		v := strings.Join(values, ",")
		a.meta[strings.ToLower(rest)] = v
		size += len(rest) + len(v)
	}
	if size > maxUserMeta {
		return a, errMetadataTooLarge
	}
	var err error
	if a.tags, err = parseTagHeader(h.Get("X-Amz-Tagging")); err != nil {
		return a, err
	}
	a.lock, err = readLock(h)
	return a, err
}

// refuseForeignEncryption answers requests for encryption that coffer does not
// do. SSE-S3 it does, and more: every object is encrypted.
func refuseForeignEncryption(h http.Header) error {
	if v := h.Get("X-Amz-Server-Side-Encryption"); v != "" && v != "AES256" {
		if v != "aws:kms" && v != "aws:kms:dsse" {
			return errInvalidArgument.saying("The encryption method specified is not supported")
		}
		return errNotImplemented.saying("Encryption with keys of a KMS is not implemented: every object is encrypted under your own key.")
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Server-Side-Encryption-Customer-") ||
			strings.HasPrefix(name, "X-Amz-Copy-Source-Server-Side-Encryption-Customer-") {
			return errNotImplemented.saying("Encryption with keys of the client is not implemented: every object is encrypted under your own key.")
		}
	}
	return nil
}

// parseTagHeader reads x-amz-tagging, a URL query.
func parseTagHeader(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	bad := badArgument("x-amz-tagging", s, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	q, err := url.ParseQuery(s)
	if err != nil {
		return nil, bad
	}
	tags := make(map[string]string, len(q))
	for name, values := range q {
		if name == "" || len(values) != 1 {
			return nil, bad
		}
		tags[name] = values[0]
	}
	return tags, checkTags(tags)
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return &failure{code: "BadRequest", status: 400, message: "Object tags cannot be greater than 10"}
	}
	for name, value := range tags {
		if err := checkTag(name, value); err != nil {
			return err
		}
	}
	return nil
}

// tagText is what S3 allows in tags.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

func checkTag(name, value string) error {
	switch {
	case name == "" || utf8.RuneCountInString(name) > 128 || !tagText.MatchString(name):
		return errInvalidTag.saying("The TagKey you have provided is invalid").with("TagKey", name)
	case utf8.RuneCountInString(value) > 256 || !tagText.MatchString(value):
		return errInvalidTag.saying("The TagValue you have provided is invalid").with("TagKey", name).with("TagValue", value)
	}
	return nil
}

// quote writes an ETag as HTTP wants it.
func quote(etag string) string { return `"` + etag + `"` }

// unquote reads an ETag with or without quotes.
func unquote(s string) string { return strings.Trim(strings.TrimSpace(s), `"`) }

// httpTime writes a time for Last-Modified.
func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

// overrides are the query parameters of a GET that replace headers of the answer.
var overrides = map[string]string{
	"response-cache-control":       "Cache-Control",
	"response-content-disposition": "Content-Disposition",
	"response-content-encoding":    "Content-Encoding",
	"response-content-language":    "Content-Language",
	"response-content-type":        "Content-Type",
	"response-expires":             "Expires",
}

// describe sets the headers that GET and HEAD share.
func describe(h http.Header, r *row, rq *request, versioned bool) {
	for name, v := range r.Headers {
		h.Set(name, v)
	}
	if r.Headers["content-type"] == "" {
		h.Set("Content-Type", "binary/octet-stream")
	}
	for name, v := range r.Meta {
		h["x-amz-meta-"+name] = []string{v} // in lower case, as S3 does: boto3 keeps the case
	}
	for name, header := range overrides {
		if v := rq.query.Get(name); v != "" {
			h.Set(header, v)
		}
	}
	h.Set("Etag", quote(r.ETag))
	h.Set("Last-Modified", httpTime(r.modified()))
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	h.Set("X-Amz-Storage-Class", r.storageClass()) // S3 leaves STANDARD out; nobody minds that it is said
	if versioned {
		h.Set("X-Amz-Version-Id", r.versionID())
	}
	if len(r.Tags) > 0 {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(len(r.Tags)))
	}
	if r.Retention != nil {
		h.Set("X-Amz-Object-Lock-Mode", r.Retention.Mode)
		h.Set("X-Amz-Object-Lock-Retain-Until-Date", time.Unix(r.Retention.Until, 0).UTC().Format(time.RFC3339))
	}
	if r.Hold != "" {
		h.Set("X-Amz-Object-Lock-Legal-Hold", r.Hold)
	}
}

// describeChecksum sets the checksum headers, when asked for.
func describeChecksum(h http.Header, r *row) {
	c, ok := r.checksum()
	if !ok {
		return
	}
	h.Set("X-Amz-Checksum-"+c.Algo, c.Value)
	h.Set("X-Amz-Checksum-Type", c.Type)
}

// apply gives the row the attributes of a.
func (r *row) apply(a attributes) {
	r.Headers, r.Meta, r.Tags = a.headers, a.meta, a.tags
}

// sortedNames returns the keys of m in order.
func sortedNames[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
