package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"coffer/upstream"
)

// "make chaos-gateway" sets it; "make test" runs the short form.
var operations = flag.Int("ops", 80, "how many operations the gateway acknowledges while it is killed")

// killedGateway is a machine whose daemon is killed all the time.
type killedGateway struct {
	*machine
	t       *testing.T
	address string
	keys    *credentials.Credentials
	cmd     *exec.Cmd
}

func newKilledGateway(t *testing.T, up string, env []string) *killedGateway {
	t.Helper()
	m := newMachine(t, env...)
	address := freeAddress(t)
	m.must("coffer", "setup", "--upstream", up, "--digits-file", m.path("digits"), "--gateway", address)
	g := &killedGateway{machine: m, t: t, address: address, keys: s3Keys(m.must("coffer", "s3", "env"))}
	g.boot()
	t.Cleanup(func() { g.kill() })
	return g
}

// s3Keys are those that "coffer s3 env" prints, after "export" and between spaces.
func s3Keys(env string) *credentials.Credentials {
	s3 := make(map[string]string)
	for _, field := range strings.Fields(env) {
		name, value, _ := strings.Cut(field, "=")
		s3[name] = strings.Trim(value, "'\"")
	}
	return credentials.NewStaticV4(s3["AWS_ACCESS_KEY_ID"], s3["AWS_SECRET_ACCESS_KEY"], "")
}

// boot starts the daemon and waits until the gateway answers.
func (g *killedGateway) boot() {
	g.t.Helper()
	log, err := os.OpenFile(g.path("cofferd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	g.cmd = exec.Command(program(g.t, "cofferd"), "--config", g.path("coffer.toml"))
	g.cmd.Env, g.cmd.Dir, g.cmd.Stdout, g.cmd.Stderr = g.env, g.home, log, log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.answers()
}

// answers waits until the gateway does.
func (g *killedGateway) answers() {
	g.t.Helper()
	c := g.client()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := c.ListBuckets(g.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(g.path("cofferd.log"))
			g.t.Fatalf("the gateway does not answer: %v\n%s", err, text[max(0, len(text)-4000):])
		}
	}
}

func (g *killedGateway) kill() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

// client is a new one each time: connections to a dead process are of no use.
func (g *killedGateway) client() *minio.Core {
	g.t.Helper()
	c, err := minio.NewCore(g.address, &minio.Options{Creds: g.keys, Region: "us-east-1", MaxRetries: 1, Transport: &http.Transport{}})
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// s3Worker writes to keys of its own and remembers what each may hold; "" is nothing.
type s3Worker struct {
	id    int
	rng   *rand.Rand
	may   map[string][]string
	acked int
	count map[string]int // by operation
}

// body is random enough that no two are the same.
func (w *s3Worker) body(size int) string {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%032d", w.rng.Uint64()))).Read(b)
	return string(b)
}

// step does one operation. What is acknowledged is what the key holds; what is
// not may or may not have happened, as a whole.
func (w *s3Worker) step(ctx context.Context, c *minio.Core) error {
	key := fmt.Sprintf("w%d/k%d", w.id, w.rng.IntN(8))
	before := w.may[key]
	if before == nil {
		before = []string{""}
	}
	var kind, after string
	var do func() error
	switch n := w.rng.IntN(20); {
	case n < 4:
		kind, do = "delete", func() error { return c.RemoveObject(ctx, "chaos", key, minio.RemoveObjectOptions{}) }
	case n < 7:
		kind, after = "multipart", w.body(5<<20+w.rng.IntN(200_000))
		do = func() error { return w.multipart(ctx, c, key, after) }
	default:
		size := 1 + w.rng.IntN(3000)
		if kind = "put"; n == 19 { // streamed
			kind, size = "stream", 1<<20+w.rng.IntN(500_000)
		}
		after = w.body(size)
		do = func() error {
			_, err := c.PutObject(ctx, "chaos", key, strings.NewReader(after), int64(len(after)), "", "", minio.PutObjectOptions{})
			return err
		}
	}
	w.may[key] = append(slices.Clone(before), after)
	err := do()
	if err == nil {
		w.may[key] = []string{after}
		w.acked++
		w.count[kind]++
	}
	return err
}

// multipart sends two parts, the last one first and again, and completes them.
func (w *s3Worker) multipart(ctx context.Context, c *minio.Core, key, data string) error {
	id, err := c.NewMultipartUpload(ctx, "chaos", key, minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	parts := make([]minio.CompletePart, 2)
	for _, n := range []int{2, 1, 2} {
		piece := data[:5<<20]
		if n == 2 {
			piece = data[5<<20:]
		}
		part, err := c.PutObjectPart(ctx, "chaos", key, id, n, strings.NewReader(piece), int64(len(piece)), minio.PutObjectPartOptions{})
		if err != nil {
			return err
		}
		parts[n-1] = minio.CompletePart{PartNumber: n, ETag: part.ETag}
	}
	_, err = c.CompleteMultipartUpload(ctx, "chaos", key, id, parts, minio.PutObjectOptions{})
	return err
}

// TestGatewayKilled: a daemon that is killed at any moment loses no acknowledged
// write, shows none by halves, lists what is there, and leaves nothing behind.
func TestGatewayKilled(t *testing.T) {
	storages(t, func(t *testing.T, up, env []string) {
		g := newKilledGateway(t, up[1], env)
		if err := g.client().MakeBucket(t.Context(), "chaos", minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		workers := make([]*s3Worker, 4)
		for i := range workers {
			workers[i] = &s3Worker{id: i, rng: rand.New(rand.NewPCG(*seed, uint64(i))), may: make(map[string][]string), count: make(map[string]int)}
		}
		rng := rand.New(rand.NewPCG(*seed, 99))
		kills := 0
		for ; kills < 5 || acknowledged(workers) < *operations; kills++ {
			c := g.client()
			var group sync.WaitGroup
			for _, w := range workers {
				group.Go(func() {
					for w.step(t.Context(), c) == nil {
					}
				})
			}
			timer := time.NewTimer(time.Duration(20+rng.IntN(1200)) * time.Millisecond)
			<-timer.C
			g.kill()
			group.Wait()
			g.boot()
			g.verify(workers)
			if t.Failed() {
				break
			}
		}
		count := make(map[string]int)
		for _, w := range workers {
			for kind, n := range w.count {
				count[kind] += n
			}
		}
		t.Logf("%d kills, %d acknowledged operations: %v", kills, acknowledged(workers), count)
		if len(count) != 4 {
			t.Errorf("not every operation was acknowledged: %v", count)
		}
		g.clean(up[1], env)
		g.verify(workers)
	})
}

func acknowledged(workers []*s3Worker) (total int) {
	for _, w := range workers {
		total += w.acked
	}
	return total
}

// verify compares everything that can be read with what it may be, and the
// listing with what can be read.
func (g *killedGateway) verify(workers []*s3Worker) {
	g.t.Helper()
	c := g.client()
	listed := make(map[string]int64)
	for o := range c.Client.ListObjects(g.t.Context(), "chaos", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			g.t.Fatal(o.Err)
		}
		listed[o.Key] = o.Size
	}
	for _, w := range workers {
		for _, key := range slices.Sorted(maps.Keys(w.may)) {
			got, err := g.read(c, key)
			if err != nil {
				g.t.Errorf("%s: %v", key, err)
				continue
			}
			if !slices.Contains(w.may[key], got) {
				g.t.Errorf("%s holds %d bytes that nobody wrote last, of %d possible", key, len(got), len(w.may[key]))
			}
			if size, ok := listed[key]; ok != (got != "") || size != int64(len(got)) {
				g.t.Errorf("%s is listed: %t, with %d bytes, and has %d", key, ok, size, len(got))
			}
			delete(listed, key)
			w.may[key] = []string{got}
		}
	}
	if len(listed) > 0 {
		g.t.Errorf("listed, and written by nobody: %v", listed)
	}
}

// read returns what is under key, "" for nothing.
func (g *killedGateway) read(c *minio.Core, key string) (string, error) {
	body, _, _, err := c.GetObject(g.t.Context(), "chaos", key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == "NoSuchKey" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer body.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, body)
	return b.String(), err
}

// clean aborts the uploads that nobody will complete, starts the daemon once more,
// and looks whether they or the kills left anything behind.
func (g *killedGateway) clean(up string, env []string) {
	g.t.Helper()
	c := g.client()
	for {
		page, err := c.ListMultipartUploads(g.t.Context(), "chaos", "", "", "", "", 1000)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, u := range page.Uploads {
			if err := c.AbortMultipartUpload(g.t.Context(), "chaos", u.Key, u.UploadID); err != nil {
				g.t.Error(err)
			}
		}
		if len(page.Uploads) == 0 {
			break
		}
	}
	g.kill()
	g.boot()
	listed := 0
	for o := range g.client().Client.ListObjects(g.t.Context(), "chaos", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			g.t.Fatal(o.Err)
		}
		listed++
	}
	eventually(g.t, "the spool is empty", 30*time.Second, func() bool {
		left, err := os.ReadDir(filepath.Join(g.home, ".local/state/coffer/gateway/spool"))
		return err == nil && len(left) == 0
	})
	store := upstreamConfigOf(up, env)
	b, err := upstream.Open(g.t.Context(), store)
	if err != nil {
		g.t.Fatal(err)
	}
	if closer, ok := b.(io.Closer); ok {
		defer closer.Close()
	}
	stored := -1 // the row of the bucket
	if err := b.List(g.t.Context(), "s3/", "", func(upstream.Info) error { stored++; return nil }); err != nil {
		g.t.Fatal(err)
	}
	if stored != listed {
		g.t.Errorf("%d objects upstream, %d in the listing", stored, listed)
	}
}

// upstreamConfigOf reads what "coffer setup --upstream" was given.
func upstreamConfigOf(up string, env []string) upstream.Config {
	kind, where, _ := strings.Cut(up, ":")
	c := upstream.Config{Type: kind, Path: where}
	if kind == "s3" {
		i := strings.LastIndexByte(where, '/')
		c.Endpoint, c.Bucket = where[:i], where[i+1:]
	}
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "AWS_ACCESS_KEY_ID="); ok {
			c.AccessKey = value
		} else if value, ok := strings.CutPrefix(v, "AWS_SECRET_ACCESS_KEY="); ok {
			c.SecretKey = upstream.NewSecret(value)
		}
	}
	return c
}
