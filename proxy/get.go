package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"coffer/seal"
	"coffer/upstream"
)

// found is an object that a request means.
type found struct {
	bucket *bucketRow
	row    *row
	at     place
}

// find looks up the object that rq means, by its key and versionId. A delete
// marker is an answer too, with headers of its own.
func (p *Proxy) find(h http.Header, rq *request) (*found, error) {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return nil, err
	}
	return p.findIn(rq.Context(), h, rq.ix, b, rq.bucket, rq.key, rq.query.Get("versionId"))
}

func (p *Proxy) findIn(ctx context.Context, h http.Header, ix *index, b *bucketRow, bucket, key, id string) (*found, error) {
	if err := p.settleKey(ctx, ix, bucket, key); err != nil {
		return nil, err
	}
	var r *row
	var err error
	byID := id != "" // an empty one is none
	if byID {
		if err := readVersionID(id); err != nil {
			return nil, err
		}
		r, err = ix.version(bucket, key, id)
		if err == nil && r == nil {
			err = errNoSuchVersion
		}
	} else if r, err = ix.newest(bucket, key); err == nil && r == nil {
		h.Set("X-Amz-Delete-Marker", "false")
		err = errNoSuchKey
	}
	if err != nil {
		return nil, err
	}
	if r.Marker {
		h.Set("X-Amz-Delete-Marker", "true")
		h.Set("X-Amz-Version-Id", r.versionID())
		if byID {
			h.Set("Last-Modified", httpTime(r.modified()))
			return nil, errMethodNotAllowed
		}
		return nil, errNoSuchKey
	}
	at, err := p.place(ix, bucket, key, r.Version)
	return &found{b, r, at}, err
}

func (f *found) versioned() bool { return f.bucket.Versioning != "" }

// getObject answers GET and HEAD.
func (p *Proxy) getObject(w http.ResponseWriter, rq *request) error {
	if err := refuseForeignEncryption(rq.Header); err != nil {
		return err
	}
	if s := rq.query.Get("partNumber"); s != "" {
		if _, err := partNumber(s); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		f, err := p.find(w.Header(), rq)
		if err != nil {
			return err
		}
		err = p.sendObject(w, rq, f)
		if !errors.Is(err, errOther) && !errors.Is(err, upstream.ErrNotExist) || try == 2 {
			return err
		}
		// Nothing is sent yet. Either the object was replaced since the row was
		// read, or another writer was here, or the storage lies.
		if err := p.adopt(rq.Context(), rq.ix, f); err != nil {
			return err
		}
	}
}

// adopt takes over what lies upstream if it is newer than the index knows; what
// is older is a rollback. It succeeds as well if the index has moved on.
func (p *Proxy) adopt(ctx context.Context, ix *index, f *found) error {
	unlock, err := p.lockKey(ctx, f.at.bucket, f.at.key)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := ix.version(f.at.bucket, f.at.key, f.row.versionID())
	if err != nil || now == nil || now.Generation != f.row.Generation || now.Envelope != f.row.Envelope {
		return err
	}
	r, parts, err := p.inspect(ctx, ix, f.at)
	if err != nil {
		return err
	}
	if !r.newer(now) {
		return fmt.Errorf("generation %d, expected %d: %w", r.Generation, now.Generation, errOther)
	}
	ix.seen(r.Generation)
	c := ix.change()
	c.drop(f.at.bucket, f.at.key, now)
	c.put(f.at.bucket, f.at.key, r, parts)
	return c.commit()
}

func (p *Proxy) sendObject(w http.ResponseWriter, rq *request, f *found) error {
	r := f.row
	if err := checkRead(rq.Header, r); err != nil {
		if errors.Is(err, errNotModified) {
			w.Header().Set("Etag", quote(r.ETag))
			w.Header().Set("Last-Modified", httpTime(r.modified()))
		}
		return err
	}
	s, err := p.wantedSpan(w.Header(), rq, f)
	if err != nil {
		if errors.Is(err, errInvalidRange) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", r.Size))
		}
		return err
	}
	return sendSpan(w, rq, r, s, f.versioned(), func() (io.ReadCloser, error) { return p.openSpan(rq.Context(), rq.ix, f, s) })
}

// sendSpan answers with a span of the object of r, which open opens.
func sendSpan(w http.ResponseWriter, rq *request, r *row, s span, versioned bool, open func() (io.ReadCloser, error)) error {
	a := &delayed{w: w, begin: func() { describeSpan(w, rq, r, s, versioned) }}
	if rq.Method == http.MethodHead {
		a.start()
		return nil
	}
	body, err := open()
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.Copy(a, body)
	if err != nil {
		return err
	}
	if n != s.n { // the connection is cut, if anything was sent
		return fmt.Errorf("%d bytes of %d: %w", n, s.n, seal.ErrCorrupt)
	}
	a.start()
	return nil
}

// describeSpan writes the header of an answer.
func describeSpan(w http.ResponseWriter, rq *request, r *row, s span, versioned bool) {
	h := w.Header()
	describe(h, r, rq, versioned)
	if s.whole && wantsChecksum(rq) {
		describeChecksum(h, r)
	}
	h.Set("Content-Length", strconv.FormatInt(s.n, 10))
	status := http.StatusOK
	if !s.whole || rq.query.Has("partNumber") {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.off, s.off+s.n-1, r.Size))
		if s.n == 0 {
			h.Del("Content-Range")
		}
	}
	w.WriteHeader(status)
}

func wantsChecksum(rq *request) bool {
	return strings.EqualFold(rq.Header.Get("X-Amz-Checksum-Mode"), "ENABLED")
}

// delayed is an answer whose header waits for the first byte: an object that
// does not open is an error, not a 200 that breaks off.
type delayed struct {
	w     io.Writer
	begin func() // nil once it was called
}

func (d *delayed) start() {
	if d.begin != nil {
		d.begin()
		d.begin = nil
	}
}

// Write marks the errors of the client's side.
func (d *delayed) Write(b []byte) (int, error) {
	d.start()
	n, err := d.w.Write(b)
	if err != nil {
		err = errHungUp(err)
	}
	return n, err
}

func errHungUp(err error) error { return fmt.Errorf("%w: %w", context.Canceled, err) }

// wantedSpan is the part of the object that the request wants, by Range or by
// partNumber.
func (p *Proxy) wantedSpan(h http.Header, rq *request, f *found) (span, error) {
	if !rq.query.Has("partNumber") {
		return parseRange(rq.Header.Get("Range"), f.row.Size)
	}
	if rq.Header.Get("Range") != "" {
		return span{}, errInvalidRequest.saying("Cannot specify both Range header and partNumber query parameter")
	}
	number, err := partNumber(rq.query.Get("partNumber"))
	if err != nil {
		return span{}, err
	}
	if f.row.PartCount == 0 {
		if number != 1 {
			return span{}, errInvalidPartNumber
		}
		return span{n: f.row.Size, whole: true}, nil
	}
	parts, err := rq.ix.parts(f.at.bucket, f.at.key, f.row)
	if err != nil {
		return span{}, err
	}
	// Amazon numbers the parts of the finished object anew, from 1.
	if number > len(parts) {
		return span{}, errInvalidPartNumber
	}
	s := span{n: parts[number-1].Size}
	for _, part := range parts[:number-1] {
		s.off += part.Size
	}
	h.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(parts)))
	if c, ok := f.row.checksum(); ok && len(parts[number-1].Checksum) > 0 && wantsChecksum(rq) {
		h.Set("X-Amz-Checksum-"+c.Algo, base64.StdEncoding.EncodeToString(parts[number-1].Checksum))
		h.Set("X-Amz-Checksum-Type", c.Type)
	}
	return s, nil
}
