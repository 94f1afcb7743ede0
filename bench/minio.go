package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// MinIO is a running server that counts what reaches it.
type MinIO struct {
	Address   string // host:port
	AccessKey string
	SecretKey string

	proc   *Process
	client *minio.Client
}

// StartMinIO starts the server program on a free loopback port over dir.
func StartMinIO(ctx context.Context, program, dir string) (*MinIO, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &MinIO{Address: l.Addr().String(), AccessKey: "bench-access", SecretKey: "bench-secret-key"}
	l.Close()
	env := append(os.Environ(), "MINIO_ROOT_USER="+m.AccessKey, "MINIO_ROOT_PASSWORD="+m.SecretKey,
		"MINIO_BROWSER=off", "MINIO_PROMETHEUS_AUTH_TYPE=public", "HOME="+dir)
	m.proc, err = Start(env, filepath.Join(filepath.Dir(dir), "minio.log"), program, "server", "--address", m.Address, dir)
	if err != nil {
		return nil, err
	}
	m.client, err = minio.New(m.Address, &minio.Options{Creds: credentials.NewStaticV4(m.AccessKey, m.SecretKey, "")})
	if err != nil {
		return nil, err
	}
	for range 100 {
		if _, err = m.client.ListBuckets(ctx); err == nil {
			return m, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	m.Stop()
	return nil, fmt.Errorf("minio did not come up: %w", err)
}

// Stop ends the server.
func (m *MinIO) Stop() {
	m.proc.Stop()
}

// Process returns the server's process.
func (m *MinIO) Process() *Process { return m.proc }

// MakeBucket makes an empty bucket.
func (m *MinIO) MakeBucket(ctx context.Context, name string) error {
	return m.client.MakeBucket(ctx, name, minio.MakeBucketOptions{})
}

// Stored returns the bytes of all objects in a bucket.
func (m *MinIO) Stored(ctx context.Context, bucket string) (size int64, err error) {
	for o := range m.client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return 0, o.Err
		}
		size += o.Size
	}
	return size, nil
}

// Counters returns how many bytes and S3 requests the server has received.
func (m *MinIO) Counters(ctx context.Context) (received, requests int64, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+m.Address+"/minio/metrics/v3/api/requests", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("reading MinIO's metrics: %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := cutLast(lines.Text())
		switch {
		case !ok:
		case strings.HasPrefix(name, "minio_api_requests_traffic_received_bytes"):
			received += value
		case strings.HasPrefix(name, "minio_api_requests_total"):
			requests += value
		}
	}
	return received, requests, lines.Err()
}

// cutLast splits a line of the Prometheus text format into the series and its
// value.
func cutLast(line string) (series string, value int64, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || strings.HasPrefix(line, "#") {
		return "", 0, false
	}
	f, err := strconv.ParseFloat(line[i+1:], 64)
	return line[:i], int64(f), err == nil
}
