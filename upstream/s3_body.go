package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"go.uber.org/zap"
)

// s3Body reads a range of an object. When the connection breaks it asks for the
// rest of the same object, and only if that fails does the reader.
type s3Body struct {
	s     *S3
	ctx   context.Context
	key   string
	tries int // left

	body io.ReadCloser // nil after a break
	off  int64         // of the next byte
	left int64
	etag string
	err  error
}

// open asks for the range as [Bucket.Get] defines it; n is not 0.
func (b *s3Body) open(name string, off, n int64) (Info, error) {
	var rang string
	switch {
	case off < 0:
		rang = fmt.Sprintf("bytes=%d", off)
	case n > 0:
		rang = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	case off > 0:
		rang = fmt.Sprintf("bytes=%d-", off)
	}
	found, start, err := b.fetch(rang)
	if err != nil {
		return Info{}, err
	}
	wantOff, wantLeft := cutRange(off, -1, found.Size)
	if start != wantOff {
		return Info{}, errors.Join(fmt.Errorf("storage sends from byte %d, not %d: %w", start, wantOff, ErrDamaged), b.body.Close())
	}
	if n > 0 {
		wantLeft = min(n, wantLeft)
	}
	b.off, b.left, b.etag = start, wantLeft, found.ETag
	return s3Info(name, found), nil
}

// fetch sends one request, again if need be, and returns the whole object's
// description and the offset at which the answer begins.
func (b *s3Body) fetch(rang string) (found minio.ObjectInfo, start int64, err error) {
	err = b.s.do(b.ctx, "get", always, func(ctx context.Context) error {
		var o minio.GetObjectOptions
		if rang != "" {
			o.Set("Range", rang)
		}
		if b.etag != "" {
			if err := o.SetMatchETag(b.etag); err != nil {
				return err
			}
		}
		body, info, header, err := b.s.core.GetObject(ctx, b.s.bucket, b.key, o)
		if err != nil {
			return err
		}
		found, start = info, 0
		if r := header.Get("Content-Range"); r != "" {
			start, found.Size, err = parseContentRange(r)
		}
		if err == nil && found.Size < 0 {
			err = fmt.Errorf("storage gives no size: %w", ErrDamaged)
		}
		if err != nil {
			return errors.Join(err, body.Close())
		}
		b.body = body
		return nil
	})
	return found, start, err
}

// parseContentRange parses "bytes 0-9/100" (RFC 9110, section 14.4).
func parseContentRange(s string) (start, size int64, err error) {
	if strings.HasPrefix(s, "bytes ") && strings.HasSuffix(s, "/0") {
		return 0, 0, nil // no range of nothing can be written; MinIO sends "0--1/0"
	}
	span, total, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	size, err3 := strconv.ParseInt(total, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || err3 != nil || start < 0 || end < start || size <= end {
		return 0, 0, fmt.Errorf("storage sends Content-Range %.40q: %w", s, ErrDamaged)
	}
	return start, size, nil
}

// Read implements io.Reader.
func (b *s3Body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	for b.err == nil {
		if b.body == nil {
			if b.err = b.reopen(); b.err != nil {
				break
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
		b.off += int64(n)
		b.left -= int64(n)
		if b.left == 0 || err == nil {
			return n, nil
		}
		b.broken(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// broken notes that the answer ended early with err.
func (b *s3Body) broken(err error) {
	_ = b.body.Close() // it is broken anyway
	b.body = nil
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	err = s3Error(b.ctx, err)
	if b.tries--; b.tries < 0 || b.ctx.Err() != nil {
		b.err = fmt.Errorf("reading %q: %d bytes before the end: %w", b.key, b.left, cutError{err})
		return
	}
	b.s.log.Debug("reading goes on after a broken answer", zap.Int64("left", b.left), zap.Error(err))
}

// cutError is io.ErrUnexpectedEOF beside what caused it.
type cutError struct{ error }

func (e cutError) Unwrap() []error { return []error{e.error, io.ErrUnexpectedEOF} }

func (b *s3Body) reopen() error {
	_, start, err := b.fetch(fmt.Sprintf("bytes=%d-%d", b.off, b.off+b.left-1))
	if err == nil && start != b.off {
		err = errors.Join(fmt.Errorf("storage sends from byte %d, not %d: %w", start, b.off, ErrDamaged), b.body.Close())
	}
	if err != nil { // ErrExists: it has been replaced meanwhile, the rest is lost
		return fmt.Errorf("reading %q: %d bytes before the end: %w", b.key, b.left, cutError{err})
	}
	return nil
}

// Close implements io.Closer.
func (b *s3Body) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
