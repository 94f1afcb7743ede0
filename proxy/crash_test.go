package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"coffer/seal"
	"coffer/upstream"
)

const (
	childEnv = "COFFER_TEST_GATEWAY"

	// chaosEnv is how many operations TestKill does at least; "make chaos-gateway"
	// sets it.
	chaosEnv = "COFFER_CHAOS_OPERATIONS"
)

// TestMain lets this program be the gateway that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, serveChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveChild is a gateway over a folder that tells its address and runs until it
// is killed.
func serveChild(dir string) error {
	bucket, err := upstream.NewFolder(filepath.Join(dir, "upstream"))
	if err != nil {
		return err
	}
	key, err := seal.KeyFromBytes(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		return err
	}
	p, err := New(Config{
		Bucket: bucket, Keys: unlocked{key.Keys(seal.StoreID{1})}, StateDir: filepath.Join(dir, "state"),
		Access: []AccessKey{{ID: testAccess, Secret: NewSecret(testSecret)}},
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() { fmt.Fprintln(os.Stderr, p.Run(context.Background())) }()
	go func() { _, _ = os.Stdin.Read(make([]byte, 1)); os.Exit(0) }() // the death of the parent closes it
	return Server(p, nil).Serve(l)
}

// child is a gateway in a process of its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the gateway does not start: %v", err)
	}
	return &child{cmd, stdin, strings.TrimSpace(line)}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

func (c *child) client(t *testing.T) *minio.Client {
	t.Helper()
	client, err := minio.New(c.addr, &minio.Options{
		Creds: credentials.NewStaticV4(testAccess, testSecret, ""), Region: "us-east-1", MaxRetries: 1,
		Transport: &http.Transport{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// content is what a key may hold; "" is nothing.
type content = string

// worker writes to keys of its own and remembers what each may hold.
type worker struct {
	id    int
	rnd   *rand.Rand
	may   map[string][]content
	acked int
}

// step does one operation. What is acknowledged is what the key holds; what is
// not may or may not have happened.
func (w *worker) step(ctx context.Context, c *minio.Client) error {
	key := fmt.Sprintf("w%d/k%d", w.id, w.rnd.IntN(8))
	before := w.may[key]
	if before == nil {
		before = []content{""}
	}
	size := []int{w.rnd.IntN(3000), 1<<20 + w.rnd.IntN(300000), 5<<20 + w.rnd.IntN(100)}[min(w.rnd.IntN(12)/5, 2)]
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(w.rnd.Uint32())
		if i > 1000 {
			data[i] = data[i-1000]
		}
	}
	after := content(data)
	var err error
	if w.rnd.IntN(4) == 0 {
		after = ""
		w.may[key] = append(slices.Clone(before), after)
		err = c.RemoveObject(ctx, "bucket", key, minio.RemoveObjectOptions{})
	} else {
		w.may[key] = append(slices.Clone(before), after)
		_, err = c.PutObject(ctx, "bucket", key, bytes.NewReader(data), int64(size), minio.PutObjectOptions{PartSize: 5 << 20})
	}
	if err == nil {
		w.may[key] = []content{after}
		w.acked++
	}
	return err
}

// TestKill: a gateway that is killed at any moment loses no acknowledged write,
// shows none by halves, and lists what is there.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	g := startChild(t, dir)
	if err := g.client(t).MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	workers := make([]*worker, 4)
	for i := range workers {
		workers[i] = &worker{id: i, rnd: rand.New(rand.NewPCG(1, uint64(i))), may: make(map[string][]content)}
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	operations, _ := strconv.Atoi(os.Getenv(chaosEnv))
	kills := 0
	for ; kills < 12 || acknowledged(workers) < operations; kills++ {
		c := g.client(t)
		var group sync.WaitGroup
		for _, w := range workers {
			group.Go(func() {
				for w.step(t.Context(), c) == nil {
				}
			})
		}
		timer := time.NewTimer(time.Duration(20+rnd.IntN(300)) * time.Millisecond)
		<-timer.C
		g.kill()
		group.Wait()
		g = startChild(t, dir)
		verify(t, g.client(t), workers)
	}
	total := acknowledged(workers)
	if total < 20 {
		t.Errorf("only %d writes were acknowledged: nothing was tried", total)
	}
	t.Logf("%d acknowledged writes, %d kills", total, kills)
	g = cleaned(t, g, dir)
	verify(t, g.client(t), workers)
	g.kill()
}

func acknowledged(workers []*worker) (total int) {
	for _, w := range workers {
		total += w.acked
	}
	return total
}

// cleaned aborts the uploads that nobody will complete, and looks whether they or
// the kills left anything behind.
func cleaned(t *testing.T, g *child, dir string) *child {
	t.Helper()
	c := minio.Core{Client: g.client(t)}
	for {
		page, err := c.ListMultipartUploads(t.Context(), "bucket", "", "", "", "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Uploads {
			if err := c.AbortMultipartUpload(t.Context(), "bucket", u.Key, u.UploadID); err != nil {
				t.Error(err)
			}
		}
		if len(page.Uploads) == 0 {
			break
		}
	}
	g.kill()
	g = startChild(t, dir)
	count := 0
	for o := range g.client(t).ListObjects(t.Context(), "bucket", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		count++
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // Run tidies beside the requests
		left, err := os.ReadDir(filepath.Join(dir, "state", "spool"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Errorf("%d files are left in the spool", len(left))
			break
		}
	}
	bucket, err := upstream.NewFolder(filepath.Join(dir, "upstream"))
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	stored := -1 // the row of the bucket
	if err := bucket.List(t.Context(), upstreamPrefix, "", func(upstream.Info) error { stored++; return nil }); err != nil {
		t.Fatal(err)
	}
	if stored != count {
		t.Errorf("%d objects upstream, %d in the listing", stored, count)
	}
	return g
}

// verify compares everything that can be read with what it may be, and the
// listing with what can be read.
func verify(t *testing.T, c *minio.Client, workers []*worker) {
	t.Helper()
	listed := make(map[string]int64)
	for o := range c.ListObjects(t.Context(), "bucket", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		listed[o.Key] = o.Size
	}
	for _, w := range workers {
		for key, may := range w.may {
			got, err := read(t, c, key, 0, -1)
			if minio.ToErrorResponse(err).Code == "NoSuchKey" {
				got, err = nil, nil
			}
			if err != nil {
				t.Errorf("%s: %v", key, err)
				continue
			}
			if !slices.Contains(may, content(got)) {
				t.Errorf("%s holds %d bytes that nobody wrote last, of %d possible", key, len(got), len(may))
			}
			if size, ok := listed[key]; ok != (len(got) > 0 || ok && size == 0) || ok && size != int64(len(got)) {
				t.Errorf("%s is listed: %t with %d bytes, and has %d", key, ok, size, len(got))
			}
			w.may[key] = []content{content(got)}
		}
	}
}
