package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"coffer/seal"
	"coffer/upstream"
)

const (
	// smallObject is up to which size a body is sealed in memory and put in one
	// request, which can be repeated; a longer one streams.
	smallObject = 1 << 20

	// onePut is up to which size a stream of known size is one upstream request,
	// which takes no memory. When it breaks the client has to send again; what is
	// longer goes in parts, which are held until they are through.
	onePut = 1 << 30
)

// target is where a write goes, and what it demands of what is there.
type target struct {
	ix     *index
	bucket string
	key    string
	row    *bucketRow
	cond   writeCondition
	attrs  attributes
}

// target reads what all writes of objects have in common.
func (p *Proxy) writeTarget(rq *request) (*target, error) {
	t := &target{ix: rq.ix, bucket: rq.bucket, key: rq.key}
	var err error
	if t.row, err = rq.ix.findBucket(rq.bucket); err != nil {
		return nil, err
	}
	if t.cond, err = readWriteCondition(rq.Header); err != nil {
		return nil, err
	}
	if t.attrs, err = readAttributes(rq.Header); err != nil {
		return nil, err
	}
	return t, nil
}

// version is the version that a write to t makes: "" is the null version.
func (t *target) version() string {
	if t.row.Versioning == "Enabled" {
		return newVersion()
	}
	return ""
}

func (p *Proxy) putObject(w http.ResponseWriter, rq *request) error {
	if rq.Header.Get("X-Amz-Copy-Source") != "" {
		return p.copyObject(w, rq)
	}
	t, err := p.writeTarget(rq)
	if err != nil {
		return err
	}
	if rq.ContentLength == 0 && strings.HasSuffix(rq.key, "/") && t.attrs.headers["content-type"] == "" {
		t.attrs.headers["content-type"] = "application/x-directory" // a folder, for programs that think of S3 as having some
	}
	b, err := p.openBody(rq, !p.opaque, true)
	if err != nil {
		return err
	}
	r, err := p.put(rq.Context(), t, b)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Etag", quote(r.ETag))
	h.Set("X-Amz-Object-Size", strconv.FormatInt(r.Size, 10))
	describeChecksum(h, r)
	describeVersion(h, t, r)
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

func describeVersion(h http.Header, t *target, r *row) {
	if t.row.Versioning == "Enabled" {
		h.Set("X-Amz-Version-Id", r.versionID())
	}
}

// put seals and stores the body of one object and returns its row.
func (p *Proxy) put(ctx context.Context, t *target, b *body) (*row, error) {
	// What fails now need not be sent first. It is checked again under the lock.
	if old, err := t.ix.newest(t.bucket, t.key); err != nil {
		return nil, err
	} else if err := t.cond.check(old); err != nil {
		return nil, err
	}
	r := &row{}
	r.apply(t.attrs)
	if err := t.row.protect(r, t.attrs.lock, p.now()); err != nil {
		return nil, err
	}
	if b.size < 0 {
		if err := b.peek(smallObject); err != nil {
			return nil, err
		}
	}
	if b.size >= 0 && b.size <= smallObject {
		return r, p.putSmall(ctx, t, b, r)
	}
	return r, p.putStream(ctx, t, b, r)
}

// finish takes what the body turned out to be into the row.
func (p *Proxy) finishRow(r *row, b *body) {
	r.Size = b.read
	r.ETag = p.newETag()
	if b.md5 != nil && !p.opaque {
		r.ETag = hex.EncodeToString(b.md5.Sum(nil))
	}
	if b.check != nil {
		r.Checksums = []seal.Checksum{{Type: typeFull, Algo: string(b.want.alg), Value: b.sum.value}}
	}
	r.Modified = p.now().UnixNano()
}

// newETag is an opaque ETag: the "-1" tells clients that it is no MD5.
func (p *Proxy) newETag() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:]) + "-1"
}

// putSmall seals the body in memory while it reads it. Nothing else happens before
// it has proved true; the record, which only then is known, comes last.
func (p *Proxy) putSmall(ctx context.Context, t *target, b *body, r *row) error {
	at, err := p.place(t.ix, t.bucket, t.key, t.version())
	if err != nil {
		return err
	}
	sealed := sealedBuffers.Get().(*bytes.Buffer)
	defer sealedBuffers.Put(sealed) // by then nobody reads it: Put waits for its reader
	sealed.Reset()
	sealed.Grow(int(seal.SealedSize(b.size)) + 1024)
	sw, err := seal.NewWriter(sealed, t.ix.keys, seal.Options{Footer: true})
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(sw, onlyReader{b}, make([]byte, min(b.size+1, seal.ChunkSize))); err != nil {
		return err
	}
	p.finishRow(r, b)
	return p.replace(ctx, t, at, r, nil, func(ctx context.Context) error {
		r.Envelope = r.Generation
		sw.SetRecord(r.record(at))
		if err := sw.Close(); err != nil {
			return err
		}
		r.sealedBy(sw, int64(sealed.Len()))
		meta, err := t.ix.envelope(at, r, false)
		if err != nil {
			return err
		}
		_, err = p.bucket.Put(ctx, at.name, bytes.NewReader(sealed.Bytes()), r.Sealed, upstream.PutOptions{Meta: meta, IfAbsent: t.cond.absent})
		return err
	})
}

// sealedBuffers hold objects on their way from putSmall to the upstream.
var sealedBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// onlyReader hides the other methods of a body.
type onlyReader struct{ io.Reader }

// sealedBy takes what opens the object again into the row.
func (r *row) sealedBy(w *seal.Writer, size int64) {
	r.Object, r.Header, r.Salt, r.Sealed = w.ObjectKey().ID(), w.ObjectKey().Header(), w.Part().Salt, size
}

// replace makes r the newest version of its name: under the lock of the key, and
// only if the condition of t holds, it gives r a generation, lets do change the
// upstream, and commits. A null version takes the place of the one before.
func (p *Proxy) replace(ctx context.Context, t *target, at place, r *row, parts []seal.Part, do func(context.Context) error) error {
	p.buckets.RLock()
	defer p.buckets.RUnlock()
	unlock, err := p.lockKey(ctx, t.bucket, t.key)
	if err != nil {
		return err
	}
	defer unlock()
	return p.replaceLocked(ctx, t, at, r, parts, do)
}

func (p *Proxy) replaceLocked(ctx context.Context, t *target, at place, r *row, parts []seal.Part, do func(context.Context) error) error {
	if _, err := t.ix.findBucket(t.bucket); err != nil {
		return err
	}
	if err := p.settle(ctx, t.ix, at); err != nil {
		return err
	}
	newest, err := t.ix.newest(t.bucket, t.key)
	if err != nil {
		return err
	}
	if err := t.cond.check(newest); err != nil {
		return err
	}
	old := newest
	if at.version != "" {
		old = nil
	} else if newest != nil && newest.Version != "" {
		if old, err = t.ix.version(t.bucket, t.key, nullVersion); err != nil {
			return err
		}
	}
	r.Version = at.version
	if r.Generation, err = t.ix.next(); err != nil {
		return err
	}
	return p.write(ctx, t.ix, at, r.Generation, false, do, func(c *change) error {
		if old != nil {
			c.drop(t.bucket, t.key, old)
		}
		c.put(t.bucket, t.key, r, parts)
		return nil
	})
}

// putStream seals the body while it comes. The last chunk and the footer are
// withheld until the body has proved true, so nothing else becomes visible; the
// lock of the key is taken only then, as a client may take hours to send.
func (p *Proxy) putStream(ctx context.Context, t *target, b *body, r *row) error {
	at, err := p.place(t.ix, t.bucket, t.key, t.version())
	if err != nil {
		return err
	}
	if r.Envelope, err = t.ix.next(); err != nil {
		return err
	}
	key, err := seal.NewObjectKey(t.ix.keys, seal.Options{Footer: true})
	if err != nil {
		return err
	}
	r.Object = key.ID()
	meta, err := t.ix.envelope(at, r, false)
	if err != nil {
		return err
	}
	size, err := p.streamSize(b, r, at)
	if err != nil {
		return err
	}
	up := feedUpstream(func(body io.Reader) error {
		_, err := p.bucket.Put(ctx, at.name, body, size, upstream.PutOptions{Meta: meta, IfAbsent: t.cond.absent})
		return err
	})
	sw, err := key.NewWriter(up)
	if err == nil {
		err = b.copyTo(sw)
	}
	if err != nil {
		return up.abort(err)
	}
	p.finishRow(r, b)
	err = p.replace(ctx, t, at, r, nil, func(context.Context) error {
		sw.SetRecord(r.record(at))
		if err := sw.Close(); err != nil {
			return up.abort(err)
		}
		r.sealedBy(sw, up.size)
		return up.close()
	})
	if err != nil {
		return up.abort(err)
	}
	return nil
}

// streamSize is the size of the sealed object, -1 if it is not to be told: a
// very long upload goes in parts, which can be repeated.
func (p *Proxy) streamSize(b *body, r *row, at place) (int64, error) {
	if b.size < 0 || b.size > onePut {
		return -1, nil
	}
	like := *r // as long as the row will be
	like.Generation, like.ETag, like.Modified = r.Envelope+1, hex.EncodeToString(make([]byte, 16)), p.now().UnixNano()
	if p.opaque {
		like.ETag = p.newETag()
	}
	if b.check != nil {
		like.Checksums = []seal.Checksum{{Type: typeFull, Algo: string(b.want.alg), Value: sumOf(b.want.alg, b.want.alg.new()).value}}
	}
	footer, err := seal.FooterSize(like.record(at))
	return seal.SealedSize(b.size) + int64(footer), err
}

// uploading is an upstream write that is fed by Write.
type uploading struct {
	w      *io.PipeWriter
	size   int64
	done   chan error
	result error
	ended  bool
}

// feedUpstream runs put with what is written to the result. abort or close must
// be called.
func feedUpstream(put func(io.Reader) error) *uploading {
	r, w := io.Pipe()
	u := &uploading{w: w, done: make(chan error, 1)}
	go func() {
		err := put(r)
		if err != nil {
			r.CloseWithError(err)
		} else {
			r.CloseWithError(errors.New("the upstream took less than all"))
		}
		u.done <- err
	}()
	return u
}

func (u *uploading) Write(b []byte) (int, error) {
	n, err := u.w.Write(b)
	u.size += int64(n)
	return n, err
}

// close ends the body and waits for the upstream.
func (u *uploading) close() error {
	u.w.Close()
	return u.wait()
}

// abort makes the write fail, if it has not ended, and returns the error that
// was first.
func (u *uploading) abort(err error) error {
	if u.ended {
		return err
	}
	u.w.CloseWithError(fmt.Errorf("the client's upload failed: %w", errAborted))
	if result := u.wait(); result != nil && !errors.Is(result, errAborted) {
		return result
	}
	return err
}

var errAborted = errors.New("upload is aborted")

func (u *uploading) wait() error {
	if !u.ended {
		u.result, u.ended = <-u.done, true
	}
	return u.result
}
