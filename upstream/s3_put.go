package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// Put implements [Bucket]. A body of unknown size that is longer than one part
// goes up as a multipart upload, in at most four buffers.
func (s *S3) Put(ctx context.Context, name string, body io.Reader, size int64, o PutOptions) (Info, error) {
	info, err := s.put(ctx, name, body, size, o)
	if o.IfMatch != "" && errors.Is(err, ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrExists, err) // absent is another ETag
	}
	if err != nil {
		return Info{}, fmt.Errorf("putting %q: %w", name, err)
	}
	return info, nil
}

func (s *S3) put(ctx context.Context, name string, body io.Reader, size int64, o PutOptions) (Info, error) {
	key, err := s.key(name)
	if err = errors.Join(err, checkMeta(o.Meta)); err != nil {
		return Info{}, err
	}
	if size < 0 {
		return s.putUnknown(ctx, name, body, o)
	}
	if size > MaxPut {
		return Info{}, fmt.Errorf("%d bytes, at most %d in one piece", size, int64(MaxPut))
	}
	src, err := newSource(body, size)
	if err != nil {
		return Info{}, err
	}
	opts := s.writeOptions(name, o)
	setConditions(&opts, o)
	if src.crc != "" {
		opts.UserMetadata["x-amz-checksum-crc32c"] = src.crc // goes out as the header it is
		opts.DisableContentSha256 = true
	} else if (s.local || opts.Mode != "") && size > 0 { // a lock demands a checksum
		opts.Checksum, opts.DisableContentSha256 = minio.ChecksumCRC32C, s.local // in a trailer
	}
	again := func(err error) bool {
		return src.seeker != nil && (!o.IfAbsent && o.IfMatch == "" || noEffect(err))
	}
	var done minio.UploadInfo
	err = s.do(ctx, "put", again, func(ctx context.Context) error {
		return src.send(func(r io.Reader) (err error) {
			done, err = s.core.PutObject(ctx, s.bucket, key, r, size, "", "", opts)
			return err
		})
	})
	if err != nil {
		return Info{}, err
	}
	return Info{Name: name, Size: size, ModTime: time.Now(), ETag: unquote(done.ETag), Meta: o.Meta}, nil
}

// writeOptions are the attributes of what is written under a name.
func (s *S3) writeOptions(name string, o PutOptions) minio.PutObjectOptions {
	opts := minio.PutObjectOptions{UserMetadata: metaHeaders(o.Meta), StorageClass: s.class}
	if s.Locks(name) {
		opts.Mode, opts.RetainUntilDate = s.lock.mode(), s.lock.until()
	}
	return opts
}

// metaHeaders spells the headers out: the library would take a key such as
// "expires" for the header of that name.
func metaHeaders(meta map[string]string) map[string]string {
	headers := make(map[string]string, len(meta)+1)
	for k, v := range meta {
		headers["x-amz-meta-"+k] = v
	}
	return headers
}

func setConditions(opts *minio.PutObjectOptions, o PutOptions) {
	if o.IfAbsent {
		opts.SetMatchETagExcept("*")
	}
	if o.IfMatch != "" {
		opts.SetMatchETag(o.IfMatch)
	}
}

// source is a body of known size that can be sent, several times if it seeks.
type source struct {
	r      io.Reader
	size   int64
	seeker io.Seeker // nil: may be read once
	start  int64
	crc    string // CRC32C, base64; empty if the body may be read once
}

// maxSummed bounds the body that is read a first time for its checksum, if it
// does not lie in memory.
const maxSummed = 64 << 20

func newSource(body io.Reader, size int64) (*source, error) {
	if body == nil {
		body = bytes.NewReader(nil)
	}
	if size == 0 { // the library does not read such a body
		if err := atEnd(body, nil); err != nil {
			return nil, &bodyError{err}
		}
		body = bytes.NewReader(nil)
	}
	src := &source{r: body, size: size}
	seeker, ok := body.(io.Seeker)
	if !ok {
		return src, nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return src, nil // a pipe in an os.File, for one
	}
	src.seeker, src.start = seeker, start
	_, memory := body.(interface{ Len() int })
	if !memory && size > maxSummed {
		return src, nil
	}
	sum := crc32.New(castagnoli)
	n, err := copyBody(context.Background(), sum, onlyReader{body}, size)
	if err == nil && n != size {
		err = errShort
	}
	if err == nil {
		_, err = seeker.Seek(start, io.SeekStart)
	}
	if err != nil {
		return nil, &bodyError{err}
	}
	src.crc = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return src, nil
}

// onlyReader hides the other methods of a body.
type onlyReader struct{ io.Reader }

// send calls fn with the body from its start. An error that is the body's own is
// a bodyError.
func (s *source) send(fn func(io.Reader) error) error {
	if s.seeker != nil {
		if _, err := s.seeker.Seek(s.start, io.SeekStart); err != nil {
			return &bodyError{err}
		}
	}
	b := &sentBody{exact: exactReader{r: s.r, left: s.size}}
	err := fn(b)
	if own := b.stop(s.seeker != nil); own != nil && err != nil {
		return &bodyError{own}
	}
	return err
}

// sentBody is a body in the hands of package http, which may go on reading after
// the request has failed.
type sentBody struct {
	reading sync.Mutex // held while the caller's reader reads
	exact   exactReader

	mu      sync.Mutex
	stopped bool
	err     error // of the caller's reader
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	stopped := b.stopped
	b.mu.Unlock()
	if stopped {
		return 0, errors.New("request is over")
	}
	n, err := b.exact.Read(p)
	if err != nil && err != io.EOF {
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	}
	return n, err
}

// stop lets no more reads through and returns the error of the caller's reader.
// It waits for a read that is under way if the reader is to be used again.
func (b *sentBody) stop(wait bool) error {
	b.mu.Lock()
	b.stopped = true
	err := b.err
	b.mu.Unlock()
	if wait {
		b.reading.Lock()
		defer b.reading.Unlock()
	}
	return err
}

// Copy implements [Bucket]. A store has no conditions for the target of a copy:
// they are looked at before, not in the same step.
func (s *S3) Copy(ctx context.Context, dst, src string, o PutOptions) (Info, error) {
	info, err := s.copy(ctx, dst, src, o)
	if err != nil {
		return Info{}, fmt.Errorf("copying %q to %q: %w", src, dst, err)
	}
	return info, nil
}

func (s *S3) copy(ctx context.Context, dst, src string, o PutOptions) (Info, error) {
	from, err := s.key(src)
	to, err2 := s.key(dst)
	if err = errors.Join(err, err2, checkMeta(o.Meta)); err != nil {
		return Info{}, err
	}
	if err := s.condition(ctx, dst, o); err != nil {
		return Info{}, err
	}
	info, err := s.Head(ctx, src)
	if err != nil {
		return Info{}, err
	}
	if info.Size > s.maxCopy {
		return s.copyParts(ctx, dst, to, from, info, o)
	}
	headers := metaHeaders(o.Meta)
	headers["x-amz-metadata-directive"] = "REPLACE"
	headers["x-amz-copy-source-if-match"] = info.ETag // so that the size is right
	headers["Content-Type"] = "application/octet-stream"
	for k, v := range s.writeOptions(dst, PutOptions{}).Header() {
		headers[k] = v[0]
	}
	var done minio.ObjectInfo
	err = s.do(ctx, "copy", always, func(ctx context.Context) error {
		done, err = s.core.CopyObject(ctx, s.bucket, from, s.bucket, to, headers, minio.CopySrcOptions{}, minio.PutObjectOptions{})
		if err == nil && done.ETag == "" { // an error after a status of 200
			err = fmt.Errorf("%w: no answer to a copy", ErrUnavailable)
		}
		return err
	})
	if err != nil {
		return Info{}, err
	}
	return Info{Name: dst, Size: info.Size, ModTime: done.LastModified, ETag: unquote(done.ETag), Meta: o.Meta}, nil
}

// condition tells whether what o asks for holds now.
func (s *S3) condition(ctx context.Context, name string, o PutOptions) error {
	if !o.IfAbsent && o.IfMatch == "" {
		return nil
	}
	info, err := s.Head(ctx, name)
	switch {
	case errors.Is(err, ErrNotExist) && o.IfMatch == "":
		return nil
	case errors.Is(err, ErrNotExist):
		return fmt.Errorf("absent: %w", ErrExists)
	case err != nil:
		return err
	case o.IfAbsent || info.ETag != o.IfMatch:
		return fmt.Errorf("ETag is %s: %w", info.ETag, ErrExists)
	}
	return nil
}

// copyParts copies what is too big for one call.
func (s *S3) copyParts(ctx context.Context, dst, to, from string, info Info, o PutOptions) (Info, error) {
	id, err := s.StartMultipart(ctx, dst, o)
	if err != nil {
		return Info{}, err
	}
	step := s.maxCopy
	var parts []Part
	for off := int64(0); off < info.Size && err == nil; off += step {
		number := len(parts) + 1
		err = s.do(ctx, "copy", always, func(ctx context.Context) error {
			done, err := s.core.CopyObjectPart(ctx, s.bucket, from, s.bucket, to, id, number, off, min(step, info.Size-off),
				map[string]string{"x-amz-copy-source-if-match": info.ETag})
			if err == nil && done.ETag == "" {
				err = fmt.Errorf("%w: no answer to a copy", ErrUnavailable)
			}
			if err == nil {
				parts = append(parts[:number-1], Part{number, unquote(done.ETag)})
			}
			return err
		})
	}
	var result Info
	if err == nil {
		result, err = s.CompleteMultipart(ctx, dst, id, parts, o)
	}
	if err == nil && result.Size != info.Size {
		err = fmt.Errorf("copy has %d bytes, not %d: %w", result.Size, info.Size, ErrDamaged)
	}
	if err != nil {
		return Info{}, errors.Join(err, s.abandon(ctx, dst, id))
	}
	return result, nil
}

// isMD5 tells whether an ETag can be the MD5 of what was sent.
func isMD5(etag string) bool {
	return len(etag) == 32 && strings.Trim(etag, "0123456789abcdef") == ""
}
