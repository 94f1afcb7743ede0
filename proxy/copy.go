package proxy

import (
	"context"
	"crypto/md5"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"coffer/seal"
	"coffer/upstream"
)

type copyResult struct {
	XMLName      xml.Name // CopyObjectResult or CopyPartResult
	LastModified timestamp
	ETag         string
	checksumXML
}

// findSource finds the object that x-amz-copy-source names, and holds the
// conditions on it.
func (p *Proxy) findSource(rq *request) (*found, error) {
	path, query, hasQuery := strings.Cut(rq.Header.Get("X-Amz-Copy-Source"), "?")
	f, err := p.findSourceAt(rq, path, query, hasQuery, url.PathUnescape)
	if errors.Is(err, errNoSuchKey) && strings.Contains(path, "+") {
		// s5cmd, for one, writes a space as in a query.
		f, err = p.findSourceAt(rq, path, query, hasQuery, url.QueryUnescape)
	}
	if errors.Is(err, errNoSuchKey) && !hasQuery {
		// Some encode the question mark as well.
		if decoded, derr := url.PathUnescape(path); derr == nil {
			if before, id, ok := strings.Cut(decoded, "?versionId="); ok {
				f, err = p.findSourceAt(rq, before, "versionId="+id, true, func(s string) (string, error) { return s, nil })
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return f, checkCopySource(rq.Header, f.row)
}

func (p *Proxy) findSourceAt(rq *request, path, query string, hasQuery bool, unescape func(string) (string, error)) (*found, error) {
	path, err := unescape(path)
	if err != nil {
		return nil, badArgument("x-amz-copy-source", path, "Invalid copy source encoding")
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !validBucket(bucket) {
		return nil, badArgument("x-amz-copy-source", path, "Invalid copy source bucket name")
	}
	if !ok || key == "" || !validKey(key) {
		return nil, badArgument("x-amz-copy-source", path, "Invalid copy source object key")
	}
	if expected := rq.Header.Get("X-Amz-Source-Expected-Bucket-Owner"); expected != "" && p.identity(expected) == nil {
		return nil, errAccessDenied
	}
	if !rq.who.mayUse(bucket) {
		return nil, errAccessDenied
	}
	id := ""
	if hasQuery {
		if id, ok = strings.CutPrefix(query, "versionId="); !ok {
			return nil, errInvalidArgument.saying("Unsupported copy source parameter.")
		}
	}
	b, err := rq.ix.findBucket(bucket)
	if err != nil {
		return nil, err
	}
	if err := p.permitIn(rq, bucket, key, policyAction("GetObject", id)); err != nil {
		return nil, err
	}
	return p.findIn(rq.Context(), make(http.Header), rq.ix, b, bucket, key, id)
}

// copyObject copies within the upstream: the bytes stay sealed under their data
// key, and a new envelope binds them to the new name.
func (p *Proxy) copyObject(w http.ResponseWriter, rq *request) error {
	t, err := p.writeTarget(rq)
	if err != nil {
		return err
	}
	if _, err := copyAlgorithm(rq.Header); err != nil {
		return err
	}
	f, err := p.findSource(rq)
	if err != nil {
		return err
	}
	r, err := t.copied(rq, f)
	if err != nil {
		return err
	}
	if err := t.row.protect(r, t.attrs.lock, p.now()); err != nil {
		return err
	}
	if err := p.copyTo(rq, t, f, r); err != nil {
		return err
	}
	h := w.Header()
	describeVersion(h, t, r)
	if f.versioned() {
		h.Set("X-Amz-Copy-Source-Version-Id", f.row.versionID())
	}
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	out := copyResult{XMLName: xml.Name{Space: xmlNamespace, Local: "CopyObjectResult"}, LastModified: timestamp(r.modified()), ETag: quote(r.ETag)}
	if c, ok := r.checksum(); ok {
		out.checksumXML = newChecksumXML(algorithm(c.Algo), c.Value, c.Type)
	}
	return writeXML(w, http.StatusOK, out)
}

// copied is the row of the copy of f that rq asks for.
func (t *target) copied(rq *request, f *found) (*row, error) {
	r := *f.row
	r.Retention, r.Hold, r.Marker = nil, "", false
	replaces := false
	switch d := rq.Header.Get("X-Amz-Metadata-Directive"); d {
	case "", "COPY":
		r.Headers = maps.Clone(withoutOwn(r.Headers))
		if r.Headers == nil {
			r.Headers = make(map[string]string, 2)
		}
		delete(r.Headers, redirectLocation) // of all headers the one that S3 does not copy
		if to := t.attrs.headers[redirectLocation]; to != "" {
			r.Headers[redirectLocation] = to
			replaces = true
		}
		if c := rq.Header.Get("X-Amz-Storage-Class"); c != "" && c != r.storageClass() {
			r.Headers["x-amz-storage-class"] = c
			replaces = true
		}
	case "REPLACE":
		r.Headers, r.Meta, replaces = t.attrs.headers, t.attrs.meta, true
	default:
		return nil, badArgument("x-amz-metadata-directive", d, "Unknown metadata directive.")
	}
	switch d := rq.Header.Get("X-Amz-Tagging-Directive"); d {
	case "", "COPY":
	case "REPLACE":
		r.Tags, replaces = t.attrs.tags, true
	default:
		return nil, badArgument("x-amz-tagging-directive", d, "Unknown tagging directive.")
	}
	self := f.at.bucket == t.bucket && f.at.key == t.key && !strings.Contains(rq.Header.Get("X-Amz-Copy-Source"), "versionId=")
	if self && !replaces && rq.Header.Get("X-Amz-Checksum-Algorithm") == "" {
		return nil, errInvalidRequest.saying("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	return &r, nil
}

// copyTo makes r, a copy of f, the newest version of t.
func (p *Proxy) copyTo(rq *request, t *target, f *found, r *row) error {
	alg, err := copyAlgorithm(rq.Header)
	if err != nil {
		return err
	}
	if c, ok := r.checksum(); alg != "" && (!ok || c.Algo != string(alg)) {
		return p.copyThrough(rq, t, f, r, alg)
	}
	err = p.copyServerSide(rq.Context(), t, f, r)
	if errors.Is(err, seal.ErrTooLarge) { // attributes that only a footer can hold
		return p.copyThrough(rq, t, f, r, algCRC64NVME)
	}
	return err
}

func copyAlgorithm(h http.Header) (algorithm, error) {
	name := h.Get("X-Amz-Checksum-Algorithm")
	if name == "" {
		return "", nil
	}
	a, ok := parseAlgorithm(name)
	if !ok {
		return "", errUnknownAlgorithm
	}
	return a, nil
}

func (p *Proxy) copyServerSide(ctx context.Context, t *target, f *found, r *row) error {
	at, err := p.place(t.ix, t.bucket, t.key, t.version())
	if err != nil {
		return err
	}
	parts, err := t.ix.parts(f.at.bucket, f.at.key, f.row)
	if err != nil {
		return err
	}
	p.buckets.RLock()
	defer p.buckets.RUnlock()
	unlock, err := p.lockBoth(ctx, f.at, at)
	if err != nil {
		return err
	}
	defer unlock()
	r.Modified = p.now().UnixNano()
	trial := *r // what does not fit must be known before anything is changed
	trial.Generation, trial.Envelope = ^uint64(0), ^uint64(0)
	if _, err := t.ix.envelope(at, &trial, true); err != nil {
		return err
	}
	return p.replaceLocked(ctx, t, at, r, parts, func(ctx context.Context) error {
		r.Envelope = r.Generation
		if err := p.isWhole(ctx, t.ix, f.at, f.row); err != nil {
			return err
		}
		meta, err := t.ix.envelope(at, r, true)
		if err != nil {
			return err
		}
		_, err = p.bucket.Copy(ctx, at.name, f.at.name, upstream.PutOptions{Meta: meta, IfAbsent: t.cond.absent})
		return err
	})
}

// lockBoth locks the keys of two places, always in the same order, so that two
// copies in opposite directions do not wait for each other.
func (p *Proxy) lockBoth(ctx context.Context, a, b place) (unlock func(), err error) {
	if a.bucket == b.bucket && a.key == b.key {
		return p.lockKey(ctx, a.bucket, a.key)
	}
	if a.bucket+"/"+a.key > b.bucket+"/"+b.key {
		a, b = b, a
	}
	first, err := p.lockKey(ctx, a.bucket, a.key)
	if err != nil {
		return nil, err
	}
	second, err := p.lockKey(ctx, b.bucket, b.key)
	if err != nil {
		first()
		return nil, err
	}
	return func() { second(); first() }, nil
}

// copyThrough opens the source and seals it anew.
func (p *Proxy) copyThrough(rq *request, t *target, f *found, r *row, alg algorithm) error {
	src, err := p.openSpan(rq.Context(), rq.ix, f, span{n: f.row.Size, whole: true})
	if err != nil {
		return err
	}
	defer src.Close()
	t.attrs.headers, t.attrs.meta, t.attrs.tags = r.Headers, r.Meta, r.Tags
	made, err := p.put(rq.Context(), t, p.innerBody(src, f.row.Size, alg))
	if err == nil {
		*r = *made
	}
	return err
}

// innerBody is a body that comes from here, and so needs no proof.
func (p *Proxy) innerBody(src io.Reader, size int64, alg algorithm) *body {
	b := &body{src: src, size: size, want: wanted{alg: alg}, check: alg.new()}
	if !p.opaque {
		b.md5 = md5.New()
	}
	return b
}

// uploadPartCopy makes a part of an object, or of a range of one. Its bytes are
// sealed anew, as each object has a data key of its own.
func (p *Proxy) uploadPartCopy(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	number, err := partNumber(rq.query.Get("partNumber"))
	if err != nil {
		return err
	}
	f, err := p.findSource(rq)
	if err != nil {
		return err
	}
	u, err := rq.ix.findUpload(rq.bucket, rq.key, rq.query.Get("uploadId"))
	if err != nil {
		return err
	}
	s := span{n: f.row.Size, whole: true}
	if v := rq.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		if s, err = parseCopyRange(v, f.row.Size); err != nil {
			return err
		}
	}
	if s.n > maxObjectPut {
		return errInvalidRequest.saying("The specified copy source is larger than the maximum allowable size for a copy source: 5368709120")
	}
	src, err := p.openSpan(rq.Context(), rq.ix, f, s)
	if err != nil {
		return err
	}
	defer src.Close()
	alg := u.Algorithm
	if alg == "" {
		alg = algCRC64NVME
	}
	part, err := p.storePart(rq, u, number, p.innerBody(src, s.n, alg))
	if err != nil {
		return err
	}
	if f.versioned() {
		w.Header().Set("X-Amz-Copy-Source-Version-Id", f.row.versionID())
	}
	out := copyResult{XMLName: xml.Name{Space: xmlNamespace, Local: "CopyPartResult"}, LastModified: timestamp(p.now()), ETag: quote(part.ETag)}
	if u.Algorithm != "" {
		out.checksumXML = newChecksumXML(part.Algo, part.Checksum, "")
	}
	return writeXML(w, http.StatusOK, out)
}

// parseCopyRange reads "bytes=first-last", of which nothing may be missing or
// lie outside.
func parseCopyRange(v string, size int64) (span, error) {
	bad := badArgument("x-amz-copy-source-range", v, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	spec, ok := strings.CutPrefix(v, "bytes=")
	first, last, cut := strings.Cut(spec, "-")
	if !ok || !cut {
		return span{}, bad
	}
	from, err1 := strconv.ParseUint(first, 10, 62)
	to, err2 := strconv.ParseUint(last, 10, 62)
	if err1 != nil || err2 != nil || from > to {
		return span{}, bad
	}
	if to >= uint64(size) {
		return span{}, badArgument("x-amz-copy-source-range", strconv.FormatInt(size, 10), "Range specified is not valid for source object of size: %d", size)
	}
	return span{off: int64(from), n: int64(to-from) + 1}, nil
}
