package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// mounted is a shell that may mount, for one who has started no daemon yet.
type mounted struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func newMounted(t *testing.T, m *machine) *mounted {
	t.Helper()
	cmd := exec.Command("unshare", "-rm", "sh")
	cmd.Env, cmd.Dir = m.env, m.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with the daemon
		_ = cmd.Wait()
	})
	return &mounted{t, in, bufio.NewReader(out)}
}

// do runs a line, which must succeed, and returns what it printed, as one line.
func (s *mounted) do(line string) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null || echo failed\necho; echo end\n", line); err != nil {
		s.t.Fatal(err)
	}
	var all string
	for {
		text, err := s.out.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		if text = strings.TrimSpace(text); text == "end" {
			break
		}
		all += text + " "
	}
	if strings.Contains(all, "failed") {
		s.t.Fatalf("%s failed", line)
	}
	return strings.TrimSpace(all)
}

// TestGatewayFull: where the storage or the state folder has no room, a client is
// told so and what to do, reads go on, nothing is half there, and with room again
// all goes on.
func TestGatewayFull(t *testing.T) {
	for where, folder := range map[string]string{"storage": "up", "state": ".local/state/coffer"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			sh := newMounted(t, m)
			full := m.path(folder)
			sh.do(fmt.Sprintf("mkdir -p '%s' && mount -t tmpfs -o size=100m tmpfs '%[1]s'", full))
			address := freeAddress(t)
			sh.do(fmt.Sprintf("'%s' setup --upstream 'folder:%s' --digits-file digits --gateway %s >setup.out 2>&1", program(t, "coffer"), m.path("up"), address))
			env := sh.do(fmt.Sprintf("'%s' s3 env", program(t, "coffer")))
			g := &killedGateway{machine: m, t: t, address: address, keys: s3Keys(env)}
			start := fmt.Sprintf("'%s' >>cofferd.log 2>&1 & echo $!", program(t, "cofferd"))
			pid := sh.do(start)
			g.answers()
			c := g.client()
			put := func(key string, size int) error {
				_, err := c.PutObject(t.Context(), "bucket", key, strings.NewReader(strings.Repeat("x", size)), int64(size), "", "", minio.PutObjectOptions{})
				return err
			}
			if err := c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := put("before", 1000); err != nil {
				t.Fatal(err)
			}
			sh.do(fmt.Sprintf("{ cat /dev/zero >'%s/filler'; } 2>/dev/null || true", full))

			refused := func(what string, err error) {
				t.Helper()
				if e := minio.ToErrorResponse(err); e.Code != "InsufficientStorage" || e.StatusCode != 507 || !strings.Contains(e.Message, "is full") {
					t.Errorf("%s: %v (%+v)", what, err, e)
				}
			}
			refused("small", put("small", 1000))
			refused("stream", put("stream", 3<<20))
			refused("over one that is there", put("before", 2<<20))
			if id, err := c.NewMultipartUpload(t.Context(), "bucket", "parts", minio.PutObjectOptions{}); err != nil {
				refused("upload", err)
			} else {
				_, err := c.PutObjectPart(t.Context(), "bucket", "parts", id, 1, strings.NewReader(strings.Repeat("x", 1000)), 1000, minio.PutObjectPartOptions{})
				refused("part", err)
			}
			g.holds(map[string]int{"before": 1000})

			sh.do("kill -9 " + pid + "; wait " + pid + " || true") // also a start finds it full
			sh.do(start)
			time.Sleep(300 * time.Millisecond)
			sh.do(fmt.Sprintf("rm '%s/filler'", full))
			g.answers()
			c = g.client()
			if err := put("stream", 3<<20); err != nil {
				t.Error(err)
			}
			if err := put("before", 2000); err != nil {
				t.Error(err)
			}
			g.holds(map[string]int{"before": 2000, "stream": 3 << 20})
			if t.Failed() {
				t.Log(sh.do("tail -c 3000 cofferd.log"))
			}
		})
	}
}

// holds compares the objects of "bucket" with their sizes, as they are listed and
// as they are read.
func (g *killedGateway) holds(want map[string]int) {
	g.t.Helper()
	c := g.client()
	found := 0
	for o := range c.Client.ListObjects(g.t.Context(), "bucket", minio.ListObjectsOptions{}) {
		if o.Err != nil {
			g.t.Fatal(o.Err)
		}
		found++
		size, ok := want[o.Key]
		body, _, _, err := c.GetObject(g.t.Context(), "bucket", o.Key, minio.GetObjectOptions{})
		if err != nil {
			g.t.Errorf("%s: %v", o.Key, err)
			continue
		}
		n, err := io.Copy(io.Discard, body)
		if body.Close(); err != nil || !ok || n != int64(size) || o.Size != n {
			g.t.Errorf("%s: %d bytes read, %d listed, want %d; %v", o.Key, n, o.Size, size, err)
		}
	}
	if found != len(want) {
		g.t.Errorf("%d objects are listed, want %d", found, len(want))
	}
}
