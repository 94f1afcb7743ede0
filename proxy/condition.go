package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// etagIn reports whether a list of an If-Match header names etag.
func etagIn(list, etag string) bool {
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == "*" || unquote(part) == etag {
			return true
		}
	}
	return false
}

// checkRead holds the conditions of a GET or HEAD against r (RFC 9110, 13.2.2).
func checkRead(h http.Header, r *row) error {
	return checkConditions(h, "", r)
}

// checkCopySource holds the conditions on the source of a copy against it.
func checkCopySource(h http.Header, r *row) error {
	return checkConditions(h, "X-Amz-Copy-Source-", r)
}

func checkConditions(h http.Header, prefix string, r *row) error {
	modified := r.modified().Truncate(time.Second)
	if v := h.Get(prefix + "If-Match"); v != "" {
		if !etagIn(v, r.ETag) {
			return errPreconditionFailed.with("Condition", prefix+"If-Match")
		}
	} else if t, err := http.ParseTime(h.Get(prefix + "If-Unmodified-Since")); err == nil && modified.After(t) {
		return errPreconditionFailed.with("Condition", prefix+"If-Unmodified-Since")
	}
	if v := h.Get(prefix + "If-None-Match"); v != "" {
		if etagIn(v, r.ETag) {
			return errNotModified
		}
	} else if t, err := http.ParseTime(h.Get(prefix + "If-Modified-Since")); err == nil && !modified.After(t) {
		return errNotModified
	}
	return nil
}

// writeCondition is what a PUT, a Complete or a copy demands of the object that
// it replaces.
type writeCondition struct {
	absent   bool   // If-None-Match: *
	match    string // If-Match
	size     string // a removal only: bytes, decimal
	modified string // a removal only: Last-Modified, to the second
}

func readWriteCondition(h http.Header) (writeCondition, error) {
	c := writeCondition{match: h.Get("If-Match")}
	switch v := strings.TrimSpace(h.Get("If-None-Match")); v {
	case "":
	case "*", `"*"`:
		c.absent = true
	default:
		return c, errNotImplemented
	}
	if c.absent && c.match != "" {
		return c, errNotImplemented
	}
	return c, nil
}

// check compares with the newest version r, which may be nil or a delete marker.
// The caller holds the lock of the key.
func (c writeCondition) check(r *row) error {
	there := r != nil && !r.Marker
	if c.absent && there {
		return errPreconditionFailed.with("Condition", "If-None-Match")
	}
	if c.match == "" {
		return nil
	}
	if !there {
		if strings.TrimSpace(c.match) == "*" {
			return errPreconditionFailed.with("Condition", "If-Match")
		}
		return errNoSuchKey
	}
	if !etagIn(c.match, r.ETag) {
		return errPreconditionFailed.with("Condition", "If-Match")
	}
	return nil
}

// checkRemoval holds the conditions of a removal against r, which is there.
func (c writeCondition) checkRemoval(r *row) error {
	if c.size != "" && c.size != strconv.FormatInt(r.Size, 10) {
		return errPreconditionFailed.with("Condition", "x-amz-if-match-size")
	}
	if c.modified != "" && !isTime(c.modified, r.modified(), time.Time{}) {
		return errPreconditionFailed.with("Condition", "x-amz-if-match-last-modified-time")
	}
	return c.check(r)
}

// isTime reports whether s, in the form of HTTP or of XML, is the second of t, or
// after now, if that is given: S3 has no opinion of the future.
func isTime(s string, t, now time.Time) bool {
	given, err := http.ParseTime(s)
	if err != nil {
		if given, err = time.Parse(time.RFC3339, s); err != nil {
			return false
		}
	}
	return given.Unix() == t.Unix() || !now.IsZero() && given.After(now)
}
