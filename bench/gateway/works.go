package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
	"golang.org/x/sync/errgroup"
)

// work is one thing to do on every target.
type work struct {
	name  string
	bytes int64
	do    func(ctx context.Context, t *target) (time.Duration, error)
}

const parallel = 16 // requests in flight, where there are many

// The works that figures of their own are about.
const (
	bigPut = "put-1GiB"
	bigGet = "get-1GiB"
)

// objects is how many the works leave in a bucket.
func objects(scale float64) int { return 1 + parallel + int(1000*scale) + int(10_000*scale) }

// works are the loads of the benchmark; each GET reads what the PUT before it wrote.
func works(scale float64) []work {
	big := int64(1 << 30 * scale)
	mid, small, ranges := int(1000*scale), int(10_000*scale), int(2000*scale)
	return []work{
		{bigPut, big, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "PUT", "big", 1, big, 1)
		}},
		{bigGet, big, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "GET", "big", 1, big, 1)
		}},
		{"ranges-4K", int64(ranges) << 12, func(ctx context.Context, t *target) (time.Duration, error) { return t.ranges(ctx, "big0", big, ranges) }},
		{"put-64MiB", big, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "PUT", "long", parallel, big/parallel, parallel)
		}},
		{"get-64MiB", big, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "GET", "long", parallel, big/parallel, parallel)
		}},
		{"put-1MiB", int64(mid) << 20, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "PUT", "mid", mid, 1<<20, parallel)
		}},
		{"get-1MiB", int64(mid) << 20, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "GET", "mid", mid, 1<<20, parallel)
		}},
		{"put-4KiB", int64(small) << 12, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "PUT", "small", small, 4<<10, parallel)
		}},
		{"get-4KiB", int64(small) << 12, func(ctx context.Context, t *target) (time.Duration, error) {
			return t.many(ctx, "GET", "small", small, 4<<10, parallel)
		}},
	}
}

// many moves count objects of size bytes.
func (t *target) many(ctx context.Context, method, prefix string, count int, size int64, parallel int) (time.Duration, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	began := time.Now()
	for i := range count {
		g.Go(func() error {
			key := fmt.Sprintf("%s/%s%d", t.bucket, prefix, i)
			if method == "PUT" {
				return t.request(ctx, method, key, newSource(i, size), size, "", nil)
			}
			n := &counter{}
			if err := t.request(ctx, method, key, nil, 0, "", n); err != nil {
				return err
			}
			if n.n != size {
				return fmt.Errorf("%s: %d bytes, want %d", key, n.n, size)
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// ranges reads count random ranges of 4 KiB.
func (t *target) ranges(ctx context.Context, key string, size int64, count int) (time.Duration, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	random := rand.New(rand.NewPCG(2, 2))
	began := time.Now()
	for range count {
		off := random.Int64N(size - 4096)
		g.Go(func() error {
			n := &counter{}
			err := t.request(ctx, "GET", t.bucket+"/"+key, nil, 0, fmt.Sprintf("bytes=%d-%d", off, off+4095), n)
			if err == nil && n.n != 4096 {
				err = fmt.Errorf("range of %d bytes, want 4096", n.n)
			}
			return err
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

var client = &http.Client{Transport: &http.Transport{
	MaxIdleConnsPerHost: parallel, DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
}}

// request sends one signed request, its payload unsigned: the least that every
// server accepts, so that the client's own cost stays small.
func (t *target) request(ctx context.Context, method, path string, body io.Reader, size int64, byteRange string, into io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, t.url+"/"+path, body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := client.Do(signer.SignV4(*req, t.access, t.secret, "", "us-east-1"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if into == nil {
		into = io.Discard
	}
	buffer := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buffer)
	_, err = io.CopyBuffer(struct{ io.Writer }{into}, resp.Body, buffer[:])
	return err
}

// The client shares the processors with the servers: what it saves is not
// counted as theirs.
var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// noise is what the bodies are cut from.
var noise = func() []byte {
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}()

// source is a body of left bytes of noise; each object begins elsewhere in it.
type source struct{ at, left int64 }

func newSource(seed int, size int64) *source {
	return &source{int64(seed) * 4099 % int64(len(noise)), size}
}

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), s.left)], noise[s.at:])
	s.at = (s.at + int64(n)) % int64(len(noise))
	s.left -= int64(n)
	return n, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
