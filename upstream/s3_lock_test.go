package upstream_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// lockedBucket is a bucket of a real store that locks what begins with "repo/", and
// a client that does what a thief of the keys does.
func lockedBucket(t *testing.T, mode string) (*upstream.S3, *minio.Client, upstream.Config) {
	t.Helper()
	server := testminio.StartServer(t)
	c := s3Config(t, server)
	c.Class = "REDUCED_REDUNDANCY"
	c.Lock = upstream.Lock{Mode: mode, Days: 30, Prefix: "repo/"}
	b, err := upstream.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(server.Access, server.Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	return b.(*upstream.S3), thief, c
}

// TestLock: whoever has the keys hides objects, and destroys none; each way to
// write sets the lock, and only where it belongs.
func TestLock(t *testing.T) {
	for _, mode := range []string{"governance", "compliance"} {
		t.Run(mode, func(t *testing.T) {
			b, thief, c := lockedBucket(t, mode)
			data := randomBytes(100_000)
			put(t, b, "repo/bytes", data, upstream.PutOptions{})
			if _, err := b.Put(t.Context(), "repo/stream", onlyReader{bytes.NewReader(data)}, -1, upstream.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Put(t.Context(), "repo/sized", onlyReader{bytes.NewReader(data)}, int64(len(data)), upstream.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Copy(t.Context(), "repo/copy", "repo/bytes", upstream.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			long := randomBytes(17 << 20)
			if _, err := b.Put(t.Context(), "repo/parts", bytes.NewReader(long), -1, upstream.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			put(t, b, "s3/object", data, upstream.PutOptions{})
			for _, name := range []string{"repo/bytes", "repo/stream", "repo/sized", "repo/copy", "repo/parts"} {
				info, err := thief.StatObject(t.Context(), c.Bucket, c.Prefix+name, minio.StatObjectOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got := info.Metadata.Get("X-Amz-Object-Lock-Mode"); got != strings.ToUpper(mode) {
					t.Errorf("%s: mode %q", name, got)
				}
				if info.StorageClass != "REDUCED_REDUNDANCY" && info.Metadata.Get("X-Amz-Storage-Class") != "REDUCED_REDUNDANCY" {
					t.Errorf("%s: storage class %q", name, info.StorageClass)
				}
				err = thief.RemoveObject(t.Context(), c.Bucket, c.Prefix+name, minio.RemoveObjectOptions{VersionID: info.VersionID})
				if err == nil {
					t.Errorf("%s: a locked version was removed", name)
				}
				if err := b.Delete(t.Context(), name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if _, err := b.Head(t.Context(), name); !errors.Is(err, upstream.ErrNotExist) {
					t.Errorf("%s: removed, and %v", name, err)
				}
				if _, err := b.Extend(t.Context(), name, time.Time{}); !errors.Is(err, upstream.ErrNotExist) {
					t.Errorf("%s: extended though it is hidden: %v", name, err)
				}
				old, err := thief.GetObject(t.Context(), c.Bucket, c.Prefix+name, minio.GetObjectOptions{VersionID: info.VersionID})
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				if _, err := got.ReadFrom(old); err != nil || got.Len() < len(data) {
					t.Errorf("%s: %d bytes of the hidden version, %v", name, got.Len(), err)
				}
			}
			if err := b.Delete(t.Context(), "s3/object"); err != nil {
				t.Fatal(err)
			}
			hidden, err := b.Hidden(t.Context(), "repo/")
			if err != nil || hidden.Objects != 5 || hidden.Bytes < int64(len(long)) {
				t.Errorf("hidden: %+v, %v", hidden, err)
			}
		})
	}
}

// TestExtend: the lock of what is still needed is prolonged.
func TestExtend(t *testing.T) {
	b, client, c := lockedBucket(t, "compliance")
	short := c
	short.Lock.Days = 1
	before, err := upstream.Open(t.Context(), short)
	if err != nil {
		t.Fatal(err)
	}
	put(t, before, "repo/pack", randomBytes(100), upstream.PutOptions{})
	until := func() time.Time {
		_, at, err := client.GetObjectRetention(t.Context(), c.Bucket, c.Prefix+"repo/pack", "")
		if err != nil {
			t.Fatal(err)
		}
		return *at
	}
	if left := time.Until(until()); left > 25*time.Hour {
		t.Fatalf("locked for %v", left)
	}
	if done, err := b.Extend(t.Context(), "repo/pack", time.Now().Add(-14*24*time.Hour)); err != nil || done {
		t.Errorf("of 30 days 16 are left: %t, %v", done, err)
	}
	if done, err := b.Extend(t.Context(), "repo/pack", time.Now().Add(-16*24*time.Hour)); err != nil || !done {
		t.Fatalf("of 30 days 14 are left: %t, %v", done, err)
	}
	if left := time.Until(until()); left < 29*24*time.Hour {
		t.Errorf("extended to %v", left)
	}
	if !b.Locks("repo/pack") || b.Locks("s3/object") {
		t.Error("the wrong names are locked")
	}
}

// TestLockNeedsBucket: a bucket without object lock is refused, not written to
// without a lock.
func TestLockNeedsBucket(t *testing.T) {
	c := s3Config(t, testminio.StartServer(t))
	if _, err := upstream.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Lock = upstream.Lock{Mode: "governance", Days: 1}
	if _, err := upstream.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "without object lock") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []upstream.Lock{{Mode: "soft", Days: 1}, {Mode: "governance"}, {Days: 3}} {
		c.Lock = bad
		if _, err := upstream.NewS3(c); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
