package proxy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"coffer/seal"
	"coffer/upstream"
)

// TestMain lets the test binary play the gateway that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COFFER_TEST_GATEWAY"); dir != "" {
		fmt.Fprintln(os.Stderr, beginUpload(dir, os.Getenv("COFFER_TEST_KEY")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// dying kills its process as soon as an upload has begun upstream.
type dying struct{ Bucket }

func (d dying) StartMultipart(ctx context.Context, name string, o upstream.PutOptions) (string, error) {
	if _, err := d.Bucket.StartMultipart(ctx, name, o); err != nil {
		return "", err
	}
	return "", errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("still alive"))
}

// crashConfig is that of a gateway whose state and upstream lie in dir.
func crashConfig(dir, key string) (Config, error) {
	raw, err := hex.DecodeString(key)
	if err != nil {
		return Config{}, err
	}
	backup, err := seal.KeyFromBytes(raw)
	if err != nil {
		return Config{}, err
	}
	folder, err := upstream.NewFolder(filepath.Join(dir, "upstream"))
	return Config{
		Bucket: folder, Keys: unlocked{backup.Keys(seal.StoreID{1})}, StateDir: filepath.Join(dir, "state"),
		Access: []AccessKey{{ID: testAccess, Secret: NewSecret(testSecret)}},
	}, err
}

// beginUpload is a gateway that begins an upload and does not survive it.
func beginUpload(dir, key string) error {
	c, err := crashConfig(dir, key)
	if err != nil {
		return err
	}
	c.Bucket = dying{c.Bucket}
	p, err := New(c)
	if err != nil {
		return err
	}
	server := httptest.NewServer(p)
	client, err := minio.NewCore(strings.TrimPrefix(server.URL, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(testAccess, testSecret, ""), Region: "us-east-1", MaxRetries: 1,
	})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := client.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}); err != nil {
		return err
	}
	_, err = client.NewMultipartUpload(ctx, "bucket", "key", minio.PutObjectOptions{})
	return err
}

// TestKilledStartingUpload: an upload that has begun upstream when the process is
// killed has no row, and is ended all the same once it is old.
func TestKilledStartingUpload(t *testing.T) {
	dir := t.TempDir()
	key := seal.NewKey().Bytes()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COFFER_TEST_GATEWAY="+dir, "COFFER_TEST_KEY="+hex.EncodeToString(key[:]))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
	g := startGateway(t, func(c *Config) {
		if *c, err = crashConfig(dir, hex.EncodeToString(key[:])); err != nil {
			t.Fatal(err)
		}
	})
	upstreams := func() (n int) {
		if err := g.bucket.ListMultipart(t.Context(), upstreamPrefix, func(upstream.Upload) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for info := range g.client().ListIncompleteUploads(t.Context(), "bucket", "", true) {
		t.Errorf("the gateway lists %+v", info)
	}
	if g.tidy(t.Context()); upstreams() != 1 {
		t.Fatalf("%d uploads upstream, want the one that was begun", upstreams())
	}
	g.now = func() time.Time { return time.Now().Add(uploadAge + sweepAge + time.Minute) }
	if g.tidy(t.Context()); upstreams() != 0 {
		t.Error("it is still there")
	}
}
