package upstream

import (
	"bytes"
	"context"
	"crypto/md5" // an S3 store makes ETags of it; nothing rests on it
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// StartMultipart implements [Bucket].
func (s *S3) StartMultipart(ctx context.Context, name string, o PutOptions) (string, error) {
	key, err := s.key(name)
	err = errors.Join(err, checkMeta(o.Meta))
	var id string
	if err == nil {
		err = s.do(ctx, "start", always, func(ctx context.Context) error {
			id, err = s.core.NewMultipartUpload(ctx, s.bucket, key, s.writeOptions(name, o))
			return err
		})
	}
	if err == nil && id == "" {
		err = fmt.Errorf("storage gives no upload id: %w", ErrDamaged)
	}
	if err != nil {
		return "", fmt.Errorf("starting upload of %q: %w", name, err)
	}
	return id, nil
}

// PutPart implements [Bucket].
func (s *S3) PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	etag, err := s.putPart(ctx, name, id, number, body, size)
	if err != nil {
		return "", fmt.Errorf("putting part %d of %q: %w", number, name, err)
	}
	return etag, nil
}

func (s *S3) putPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	key, err := s.key(name)
	if err != nil {
		return "", err
	}
	if number < 1 || number > MaxParts || size < 0 || size > MaxPut {
		return "", fmt.Errorf("part of %d bytes, want number 1 to %d and 0 to %d bytes", size, MaxParts, int64(MaxPut))
	}
	src := &source{r: body, size: size}
	if seeker, ok := body.(io.Seeker); ok {
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			src.seeker, src.start = seeker, start
		}
	}
	if size == 0 {
		if src, err = newSource(body, 0); err != nil {
			return "", err
		}
	}
	var done minio.ObjectPart
	err = s.do(ctx, "part", func(error) bool { return src.seeker != nil }, func(ctx context.Context) error {
		return src.send(func(r io.Reader) (err error) {
			var opts minio.PutObjectPartOptions
			if s.local && size > 0 {
				summed := newSummedReader(r)
				r, opts.Trailer, opts.DisableContentSha256 = summed, summed.trailer, true
			}
			done, err = s.core.PutObjectPart(ctx, s.bucket, key, id, number, r, size, opts)
			return err
		})
	})
	return unquote(done.ETag), err
}

// summedReader puts the CRC32C of what was read into a trailer.
type summedReader struct {
	r       io.Reader
	sum     hash.Hash
	trailer http.Header
}

func newSummedReader(r io.Reader) *summedReader {
	s := &summedReader{r, crc32.New(castagnoli), make(http.Header, 1)}
	s.tell() // its length is known from the start
	return s
}

func (s *summedReader) tell() {
	s.trailer.Set("X-Amz-Checksum-Crc32c", base64.StdEncoding.EncodeToString(s.sum.Sum(nil)))
}

func (s *summedReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	if err == io.EOF {
		s.tell()
	}
	return n, err
}

// CompleteMultipart implements [Bucket].
func (s *S3) CompleteMultipart(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error) {
	info, err := s.complete(ctx, name, id, parts, o)
	if o.IfMatch != "" && errors.Is(err, ErrNotExist) {
		if cond := s.condition(ctx, name, o); errors.Is(cond, ErrExists) { // it is the object that is absent
			err = cond
		}
	}
	if err != nil {
		return Info{}, fmt.Errorf("completing upload of %q: %w", name, err)
	}
	return info, nil
}

func (s *S3) complete(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error) {
	key, err := s.key(name)
	if err = errors.Join(err, checkParts(parts)); err != nil {
		return Info{}, err
	}
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
	}
	var opts minio.PutObjectOptions
	setConditions(&opts, o)
	lost := false // an answer: the try may have succeeded
	again := func(err error) bool {
		lost = lost || !noEffect(err)
		return true
	}
	var done minio.UploadInfo
	err = s.do(ctx, "complete", again, func(ctx context.Context) error {
		done, err = s.core.CompleteMultipartUpload(ctx, s.bucket, key, id, list, opts)
		return err
	})
	want := joinedETag(parts)
	if err != nil && !(lost && want != "" && (errors.Is(err, ErrNotExist) || errors.Is(err, ErrExists))) {
		return Info{}, err
	}
	info, headErr := s.Head(ctx, name) // the answer has no size
	if err != nil && (headErr != nil || info.ETag != want) {
		return Info{}, err // it was not ours that succeeded
	}
	if headErr == nil && err == nil && info.ETag != unquote(done.ETag) {
		headErr = fmt.Errorf("replaced at once: %w", ErrUnavailable)
	}
	return info, headErr
}

// joinedETag returns the ETag that an S3 store gives to an object of these
// parts, or "" if the parts' are not MD5s.
func joinedETag(parts []Part) string {
	sum := md5.New()
	for _, p := range parts {
		b, err := hex.DecodeString(p.ETag)
		if err != nil || !isMD5(p.ETag) {
			return ""
		}
		sum.Write(b)
	}
	return fmt.Sprintf("%x-%d", sum.Sum(nil), len(parts))
}

// AbortMultipart implements [Bucket].
func (s *S3) AbortMultipart(ctx context.Context, name, id string) error {
	key, err := s.key(name)
	if err == nil {
		err = s.do(ctx, "abort", always, func(ctx context.Context) error {
			return s.core.AbortMultipartUpload(ctx, s.bucket, key, id)
		})
	}
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("aborting upload of %q: %w", name, err)
	}
	return nil
}

// abandon aborts an upload that has failed, perhaps because ctx has ended.
func (s *S3) abandon(ctx context.Context, name, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return s.AbortMultipart(ctx, name, id)
}

// ListMultipart implements [Bucket]. MinIO lists only the uploads of one object,
// whose whole name is the prefix.
func (s *S3) ListMultipart(ctx context.Context, prefix string, fn func(Upload) error) error {
	var uploads []Upload
	key, id := "", ""
	for {
		var page minio.ListMultipartUploadsResult
		err := s.do(ctx, "list", always, func(ctx context.Context) (err error) {
			page, err = s.core.ListMultipartUploads(ctx, s.bucket, s.prefix+prefix, key, id, "", 1000)
			return err
		})
		if err != nil {
			return fmt.Errorf("listing uploads: %w", err)
		}
		for _, u := range page.Uploads {
			if name, ok := strings.CutPrefix(u.Key, s.prefix); ok && strings.HasPrefix(name, prefix) {
				uploads = append(uploads, Upload{Name: name, ID: u.UploadID, Started: u.Initiated})
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == key && page.NextUploadIDMarker == id {
			break
		}
		key, id = page.NextKeyMarker, page.NextUploadIDMarker
	}
	slices.SortStableFunc(uploads, func(a, b Upload) int { return strings.Compare(a.Name, b.Name) })
	for _, u := range uploads {
		if err := fn(u); err != nil {
			return err
		}
	}
	return nil
}

// partBuffers hold the parts of bodies of unknown size.
var partBuffers = sync.Pool{New: func() any { b := make([]byte, partSize); return &b }}

// putUnknown stores a body of unknown size.
func (s *S3) putUnknown(ctx context.Context, name string, body io.Reader, o PutOptions) (Info, error) {
	first := partBuffers.Get().(*[]byte)
	n, end, err := fill(body, *first)
	if end {
		defer partBuffers.Put(first)
		return s.put(ctx, name, bytes.NewReader((*first)[:n]), int64(n), o)
	}
	if err == nil {
		err = s.condition(ctx, name, o) // again at the end; here to spare the upload
	} else {
		err = &bodyError{err}
	}
	if err != nil {
		partBuffers.Put(first)
		return Info{}, err
	}
	id, err := s.StartMultipart(ctx, name, o)
	if err != nil {
		partBuffers.Put(first)
		return Info{}, err
	}
	parts, total, err := s.sendParts(ctx, name, id, first, body)
	var info Info
	if err == nil {
		info, err = s.CompleteMultipart(ctx, name, id, parts, o)
	}
	if err == nil && info.Size != total {
		err = fmt.Errorf("storage has %d bytes of %d: %w", info.Size, total, ErrDamaged)
	}
	if err != nil {
		return Info{}, errors.Join(err, s.abandon(ctx, name, id))
	}
	return info, nil
}

// sendParts uploads the full buffer first and then what is left of body.
func (s *S3) sendParts(ctx context.Context, name, id string, first *[]byte, body io.Reader) ([]Part, int64, error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	var mu sync.Mutex
	var parts []Part
	var total int64
	buffer, size, end := first, partSize, false
	for number := 1; ; number++ {
		if number > MaxParts {
			_ = g.Wait() // the other error says more
			return nil, 0, fmt.Errorf("body is longer than %d parts of %d bytes", MaxParts, partSize)
		}
		full, data := buffer, (*buffer)[:size]
		g.Go(func() error {
			defer partBuffers.Put(full)
			etag, err := s.putPart(gctx, name, id, number, bytes.NewReader(data), int64(len(data)))
			mu.Lock()
			defer mu.Unlock()
			parts = append(parts, Part{number, etag})
			return err
		})
		total += int64(size)
		if end || gctx.Err() != nil {
			break
		}
		buffer = partBuffers.Get().(*[]byte)
		var err error
		if size, end, err = fill(body, *buffer); err != nil {
			partBuffers.Put(buffer)
			_ = g.Wait() // the other error says more
			return nil, 0, &bodyError{err}
		}
		if size == 0 {
			partBuffers.Put(buffer)
			break
		}
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	slices.SortFunc(parts, func(a, b Part) int { return a.Number - b.Number })
	return parts, total, nil
}
