package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coffer/seal"
	"coffer/upstream"
)

const (
	// uploadAge is after how long a forgotten upload is ended.
	uploadAge = 7 * 24 * time.Hour

	// sweepAge is how often the upstream is asked for uploads that no row knows,
	// and how much older than uploadAge they must be: clocks may differ.
	sweepAge = 24 * time.Hour
)

// uploadRow is an unfinished multipart upload.
type uploadRow struct {
	ID        string            `cbor:"1,keyasint"`
	Started   int64             `cbor:"2,keyasint"` // ns since 1970
	Header    []byte            `cbor:"3,keyasint"` // object header: the sealed data key
	Upstream  string            `cbor:"4,keyasint"` // id of the upload upstream
	Version   string            `cbor:"5,keyasint,omitempty"`
	Envelope  uint64            `cbor:"6,keyasint"` // generation in the envelope, which is upstream already
	Headers   map[string]string `cbor:"7,keyasint,omitempty"`
	Meta      map[string]string `cbor:"8,keyasint,omitempty"`
	Tags      map[string]string `cbor:"9,keyasint,omitempty"`
	Algorithm algorithm         `cbor:"10,keyasint,omitempty"` // of the checksum, if the client chose one
	Type      string            `cbor:"11,keyasint,omitempty"`
	Retention *retention        `cbor:"12,keyasint,omitempty"`
	Hold      string            `cbor:"13,keyasint,omitempty"`
	Owner     string            `cbor:"14,keyasint,omitempty"` // access key that began it
}

// partRow is a part that was acknowledged.
type partRow struct {
	Number   int       `cbor:"1,keyasint"`
	Size     int64     `cbor:"2,keyasint"`
	Salt     [32]byte  `cbor:"3,keyasint"`
	MD5      []byte    `cbor:"4,keyasint,omitempty"`
	ETag     string    `cbor:"5,keyasint"` // as the client knows it
	Algo     algorithm `cbor:"6,keyasint,omitempty"`
	Checksum string    `cbor:"7,keyasint,omitempty"` // base64
	Upstream string    `cbor:"8,keyasint,omitempty"` // ETag of the part upstream
	Spool    string    `cbor:"9,keyasint,omitempty"` // or: file in the spool
	Modified int64     `cbor:"10,keyasint"`
}

// newUploadID makes an id of the form of a version id that sorts by time: uploads
// of one key are listed in the order of their beginning.
func newUploadID(now time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	var random [versionIDSize/2 - 8]byte
	rand.Read(random[:])
	return hex.EncodeToString(append(b, random[:]...))
}

func uploadKey(bucket, key, id string) []byte {
	return append(nameKey(rowUpload, bucket, key), id...)
}

// doneKey is the row of an upload that was completed: the row of its object, kept
// for a day, as a client that lost the answer completes again.
func doneKey(bucket, key, id string) []byte {
	return append(nameKey(rowDone, bucket, key), id...)
}

// findDone reads it, nil if there is none.
func (ix *index) findDone(bucket, key, id string) (*row, error) {
	if !isVersionID(id) {
		return nil, nil
	}
	r := new(row)
	found, err := ix.get(doneKey(bucket, key, id), r)
	if err != nil || !found {
		return nil, err
	}
	return r, nil
}

func partPrefix(id string) []byte { return append([]byte{rowPart}, id...) }

func partKey(id string, number int) []byte {
	return binary.BigEndian.AppendUint16(partPrefix(id), uint16(number))
}

// findUpload reads an upload of the key that rq names.
func (ix *index) findUpload(bucket, key, id string) (*uploadRow, error) {
	if !isVersionID(id) { // the same form
		return nil, errNoSuchUpload
	}
	var u uploadRow
	found, err := ix.get(uploadKey(bucket, key, id), &u)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errNoSuchUpload
	}
	return &u, nil
}

// uploadParts reads the parts of an upload, in the order of their numbers.
func (ix *index) uploadParts(id string) ([]partRow, error) {
	var parts []partRow
	err := ix.scan(partPrefix(id), nil, func(_ []byte, value func(any) error) (bool, error) {
		var part partRow
		if err := value(&part); err != nil {
			return false, err
		}
		parts = append(parts, part)
		return true, nil
	})
	return parts, err
}

type initiateResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
	Bucket   string
	Key      text
	UploadID string `xml:"UploadId"`
}

// createUpload begins a multipart upload. The upstream's begins with it: its
// metadata, and so the envelope, cannot be changed later.
func (p *Proxy) createUpload(w http.ResponseWriter, rq *request) error {
	t, err := p.writeTarget(rq)
	if err != nil {
		return err
	}
	u := &uploadRow{
		ID: newUploadID(p.now()), Started: p.now().UnixNano(), Version: t.version(), Owner: rq.who.key.ID,
		Headers: t.attrs.headers, Meta: t.attrs.meta, Tags: t.attrs.tags,
	}
	if err := u.readChecksum(rq.Header); err != nil {
		return err
	}
	r := &row{}
	if err := t.row.protect(r, t.attrs.lock, p.now()); err != nil {
		return err
	}
	u.Retention, u.Hold = r.Retention, r.Hold
	if err := p.startUpload(rq.Context(), t, u, r); err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	if u.Algorithm != "" {
		h.Set("X-Amz-Checksum-Algorithm", string(u.Algorithm))
		h.Set("X-Amz-Checksum-Type", u.Type)
	}
	return writeXML(w, http.StatusOK, initiateResult{Bucket: rq.bucket, Key: newText(rq.key), UploadID: u.ID})
}

// readChecksum reads which checksum the object is to have.
func (u *uploadRow) readChecksum(h http.Header) error {
	u.Type = strings.ToUpper(h.Get("X-Amz-Checksum-Type"))
	if u.Type != "" && u.Type != typeFull && u.Type != typeComposite {
		return errInvalidRequest.saying("Value for x-amz-checksum-type header is invalid.")
	}
	name := h.Get("X-Amz-Checksum-Algorithm")
	if name == "" {
		if u.Type != "" {
			return errInvalidRequest.saying("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return nil
	}
	a, ok := parseAlgorithm(name)
	if !ok {
		return errUnknownAlgorithm
	}
	u.Algorithm = a
	if u.Type == "" {
		u.Type = typeComposite
		if a == algCRC64NVME {
			u.Type = typeFull
		}
	}
	if u.Type == typeFull && !a.isCRC() || u.Type == typeComposite && a == algCRC64NVME {
		return errInvalidRequest.saying("The %s checksum type cannot be used with the %s checksum algorithm.", u.Type, strings.ToLower(name))
	}
	return nil
}

func (p *Proxy) startUpload(ctx context.Context, t *target, u *uploadRow, r *row) error {
	at, err := p.place(t.ix, t.bucket, t.key, u.Version)
	if err != nil {
		return err
	}
	key, err := seal.NewObjectKey(t.ix.keys, seal.Options{Multipart: true})
	if err != nil {
		return err
	}
	u.Header = key.Header()
	if u.Envelope, err = t.ix.next(); err != nil {
		return err
	}
	r.Object, r.Envelope = key.ID(), u.Envelope
	meta, err := t.ix.envelope(at, r, false)
	if err != nil {
		return err
	}
	if u.Upstream, err = p.bucket.StartMultipart(ctx, at.name, upstream.PutOptions{Meta: meta}); err != nil {
		return err
	}
	c := t.ix.change()
	c.set(uploadKey(t.bucket, t.key, u.ID), u)
	return c.commit()
}

// abortUpload forgets an upload and its parts.
func (p *Proxy) abortUpload(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	id := rq.query.Get("uploadId")
	unlock, err := p.locks.lock(rq.Context(), "upload "+id)
	if err != nil {
		return err
	}
	defer unlock()
	u, err := rq.ix.findUpload(rq.bucket, rq.key, id)
	if err != nil {
		return err
	}
	if s := rq.Header.Get("X-Amz-If-Match-Initiated-Time"); s != "" && !isTime(s, time.Unix(0, u.Started), p.now()) {
		return errPreconditionFailed.with("Condition", "x-amz-if-match-initiated-time")
	}
	if err := p.endUpload(rq.Context(), rq.ix, rq.bucket, rq.key, u); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endUpload aborts an upload upstream, then removes its rows and its spool. The
// caller holds its lock.
func (p *Proxy) endUpload(ctx context.Context, ix *index, bucket, key string, u *uploadRow) error {
	at, err := p.place(ix, bucket, key, u.Version)
	if err != nil {
		return err
	}
	if err := p.bucket.AbortMultipart(ctx, at.name, u.Upstream); err != nil {
		return err
	}
	parts, err := ix.uploadParts(u.ID)
	if err != nil {
		return err
	}
	c := ix.change()
	c.dropUpload(bucket, key, u.ID, parts)
	if err := c.commit(); err != nil {
		return err
	}
	return p.removeSpool(parts)
}

// dropUpload removes the rows of an upload.
func (c *change) dropUpload(bucket, key, id string, parts []partRow) {
	c.delete(uploadKey(bucket, key, id))
	for _, part := range parts {
		c.delete(partKey(id, part.Number))
	}
}

// eachUpload calls fn for the uploads of a bucket, or of all if bucket is "".
func (ix *index) eachUpload(bucket string, from []byte, fn func(bucket, key string, u *uploadRow) (bool, error)) error {
	prefix := []byte{rowUpload}
	if bucket != "" {
		prefix = prefixKey(rowUpload, bucket, "")
	}
	return ix.scan(prefix, from, func(row []byte, value func(any) error) (bool, error) {
		name, _, _ := strings.Cut(string(row[1:]), "\x00")
		key, _, err := parseNameKey(row, name)
		if err != nil {
			return false, err
		}
		u := new(uploadRow)
		if err := value(u); err != nil {
			return false, err
		}
		return fn(name, key, u)
	})
}

// abortUploads ends all uploads of a bucket.
func (p *Proxy) abortUploads(ctx context.Context, ix *index, bucket string) error {
	return ix.eachUpload(bucket, nil, func(bucket, key string, u *uploadRow) (bool, error) {
		unlock, err := p.locks.lock(ctx, "upload "+u.ID)
		if err != nil {
			return false, err
		}
		defer unlock()
		return true, p.endUpload(ctx, ix, bucket, key, u)
	})
}

// expireUploads ends the uploads that nobody has completed, and removes files of
// the spool that belong to none.
func (p *Proxy) expireUploads(ctx context.Context, ix *index) error {
	known := make(map[string]bool)
	err := ix.eachUpload("", nil, func(bucket, key string, u *uploadRow) (bool, error) {
		if p.now().Sub(time.Unix(0, u.Started)) < uploadAge {
			known[u.ID] = true
			return true, nil
		}
		unlock, err := p.locks.lock(ctx, "upload "+u.ID)
		if err != nil {
			return false, err
		}
		defer unlock()
		return true, p.endUpload(ctx, ix, bucket, key, u)
	})
	if err != nil {
		return err
	}
	if err := p.forgetDone(ix); err != nil {
		return err
	}
	return p.tidySpool(known)
}

// sweepUploads ends the uploads upstream that are older than any row: those which
// a crash left without one, before the row was written or in the middle of a
// stream that goes in parts. MinIO lists none, and ends them itself after a day.
func (p *Proxy) sweepUploads(ctx context.Context) error {
	if p.now().Sub(p.swept) < sweepAge {
		return nil
	}
	err := p.bucket.ListMultipart(ctx, upstreamPrefix, func(u upstream.Upload) error {
		if p.now().Sub(u.Started) < uploadAge+sweepAge {
			return nil
		}
		return p.bucket.AbortMultipart(ctx, u.Name, u.ID)
	})
	if err == nil {
		p.swept = p.now()
	}
	return err
}

// forgetDone removes the rows of uploads that were completed long ago.
func (p *Proxy) forgetDone(ix *index) error {
	c := ix.change()
	err := ix.scan([]byte{rowDone}, nil, func(key []byte, value func(any) error) (bool, error) {
		var r row
		if err := value(&r); err != nil {
			return false, err
		}
		if p.now().Sub(r.modified()) > 24*time.Hour {
			c.delete(bytes.Clone(key))
		}
		return true, nil
	})
	if err != nil {
		c.err = err
	}
	return c.commit()
}

// tidySpool removes the files that belong to no upload: those that an earlier
// process left, and others only when they are old, as an upload may have begun
// since known was made.
func (p *Proxy) tidySpool(known map[string]bool) error {
	files, err := os.ReadDir(p.spoolDir())
	if err != nil {
		return fmt.Errorf("reading the spool: %w", err)
	}
	for _, f := range files {
		id, _, _ := strings.Cut(f.Name(), "-")
		info, err := f.Info()
		if known[id] || err != nil || !p.leftover[f.Name()] && p.now().Sub(info.ModTime()) < time.Hour {
			continue
		}
		if err := os.Remove(filepath.Join(p.spoolDir(), f.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("tidying the spool: %w", err)
		}
	}
	return nil
}

// noteLeftovers remembers what lies in the spool before there is any upload.
func (p *Proxy) noteLeftovers() error {
	files, err := os.ReadDir(p.spoolDir())
	if err != nil {
		return fmt.Errorf("reading the spool: %w", err)
	}
	p.leftover = make(map[string]bool, len(files))
	for _, f := range files {
		p.leftover[f.Name()] = true
	}
	return nil
}

func (p *Proxy) spoolDir() string { return filepath.Join(p.dir, "spool") }

func (p *Proxy) removeSpool(parts []partRow) error {
	for _, part := range parts {
		if part.Spool == "" {
			continue
		}
		if err := os.Remove(filepath.Join(p.spoolDir(), part.Spool)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing a part from the spool: %w", err)
		}
	}
	return nil
}
