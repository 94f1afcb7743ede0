package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"coffer/seal"
	"coffer/upstream"
)

// failing stops answering copies and deletes after some calls.
type failing struct {
	Bucket
	left atomic.Int64
}

var errStopped = errors.New("stopped")

func (f *failing) Copy(ctx context.Context, dst, src string, o upstream.PutOptions) (upstream.Info, error) {
	if f.left.Add(-1) < 0 {
		return upstream.Info{}, errStopped
	}
	return f.Bucket.Copy(ctx, dst, src, o)
}

func (f *failing) Delete(ctx context.Context, name string) error {
	if f.left.Add(-1) < 0 {
		return errStopped
	}
	return f.Bucket.Delete(ctx, name)
}

// After a rekey, wherever it was interrupted, a gateway with the new key and an
// empty state folder has every object with its attributes, and can copy, tag and
// rekey them again.
func TestRekey(t *testing.T) {
	for _, names := range []string{"sealed", "clear"} {
		t.Run(names, func(t *testing.T) {
			g := startGateway(t, func(c *Config) { c.Names = names })
			ctx, client := t.Context(), g.client()
			if err := client.MakeBucket(ctx, "docs", minio.MakeBucketOptions{}); err != nil {
				t.Fatal(err)
			}
			want := make(map[string][]byte)
			for i := range 12 {
				key := fmt.Sprintf("folder %d/%s", i%3, strings.Repeat("long", i*20)+fmt.Sprint(i))
				want[key] = bytes.Repeat([]byte{byte(i)}, i*30_000)
				if _, err := client.PutObject(ctx, "docs", key, bytes.NewReader(want[key]), int64(len(want[key])), minio.PutObjectOptions{ContentType: "text/x-" + fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			multipart := bytes.Repeat([]byte("parts "), 2<<20)
			want["multi"] = multipart
			if _, err := client.PutObject(ctx, "docs", "multi", bytes.NewReader(multipart), -1, minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
				t.Fatal(err)
			}
			keys, err := g.config.Keys.Keys()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // twice: what was rewrapped can be rewrapped
				g.stop()
				next := seal.NewKey().Keys(keys.Store())
				f := &failing{Bucket: g.config.Bucket}
				for n := int64(1); ; n += 4 {
					f.left.Store(n)
					rep, err := Rekey(ctx, f, names, keys, next)
					if err == nil {
						if rep.Present+rep.Objects < len(want)+1 || len(rep.Foreign) > 0 {
							t.Errorf("%+v", rep)
						}
						break
					}
					if !errors.Is(err, errStopped) {
						t.Fatal(err)
					}
				}
				if err := os.RemoveAll(g.config.StateDir); err != nil {
					t.Fatal(err)
				}
				g.config.Keys, keys = unlocked{next}, next
				g.start()
				client = g.client()
				for key, body := range want {
					o, err := client.GetObject(ctx, "docs", key, minio.GetObjectOptions{})
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(o)
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%.30s: %d bytes, want %d, %v", key, len(got), len(body), err)
					}
				}
				if _, err := client.CopyObject(ctx, minio.CopyDestOptions{Bucket: "docs", Object: "copy"}, minio.CopySrcOptions{Bucket: "docs", Object: "multi"}); err != nil {
					t.Error(err)
				}
				want["copy"] = multipart
			}
			n := 0 // objects, the row of the bucket, no remains
			if err := g.config.Bucket.List(ctx, upstreamPrefix, "", func(upstream.Info) error { n++; return nil }); err != nil || n != len(want)+1 {
				t.Errorf("%d objects upstream, want %d, %v", n, len(want)+1, err)
			}
		})
	}
}
