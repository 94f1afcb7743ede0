package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/internal/testminio"
)

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// upstreams are the two kinds of untrusted storage; dir is where the bytes lie.
var upstreams = []struct {
	name string
	open func(t testing.TB) (flag, dir string, env []string)
}{
	{"folder", func(t testing.TB) (string, string, []string) {
		dir := t.TempDir()
		return "folder:" + dir, dir, nil
	}},
	{"minio", func(t testing.TB) (string, string, []string) {
		s := testminio.StartServer(t)
		bucket := fmt.Sprintf("e2e-%d", time.Now().UnixNano())
		env := []string{"AWS_ACCESS_KEY_ID=" + s.Access, "AWS_SECRET_ACCESS_KEY=" + s.Secret}
		aws := &machine{t: t, home: t.TempDir(), env: append(env, "PATH="+os.Getenv("PATH"), "AWS_REGION=us-east-1")}
		aws.must("aws", "--endpoint-url", s.Endpoint, "s3", "mb", "s3://"+bucket)
		return "s3:" + s.Endpoint + "/" + bucket, filepath.Join(s.Dir, bucket), env
	}},
}

// gateway sets up a machine and starts its daemon; it returns the environment
// for S3 programs, as "coffer s3 env" prints it.
func gateway(t *testing.T, upstreamFlag string, env []string) (m *machine, s3 *machine, d *daemon) {
	t.Helper()
	m = newMachine(t, env...)
	m.must("coffer", "setup", "--upstream", upstreamFlag, "--digits-file", m.path("digits"), "--gateway", freeAddress(t))
	d = m.start("cofferd", "--config", m.path("coffer.toml"))
	s3 = &machine{t: t, home: t.TempDir(), env: []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}}
	for line := range strings.Lines(m.must("coffer", "s3", "env")) {
		s3.env = append(s3.env, strings.TrimSpace(strings.TrimPrefix(line, "export ")))
	}
	eventually(t, "the gateway answers", 30*time.Second, func() bool {
		_, _, code := s3.run("aws", s3.endpoint("s3", "ls")...)
		return code == 0
	})
	return m, s3, d
}

// endpoint adds the endpoint to the arguments of aws: Debian's version does not
// read AWS_ENDPOINT_URL.
func (m *machine) endpoint(args ...string) []string {
	for _, e := range m.env {
		if url, ok := strings.CutPrefix(e, "AWS_ENDPOINT_URL="); ok {
			return append([]string{"--endpoint-url", url}, args...)
		}
	}
	m.t.Fatal("no AWS_ENDPOINT_URL in the output of coffer s3 env")
	return nil
}

// A large file through the endpoint and back must be the same, be listed with
// its plain size, and survive a kill of the daemon; neither its name nor its
// bytes may lie upstream.
func TestAWSCopy(t *testing.T) {
	for _, up := range upstreams {
		t.Run(up.name, func(t *testing.T) {
			flag, dir, env := up.open(t)
			m, s3, d := gateway(t, flag, env)
			data := make([]byte, 100<<20)
			rand.Read(data)
			if err := os.WriteFile(s3.path("holiday film.mp4"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			s3.must("aws", s3.endpoint("s3", "mb", "s3://films")...)
			s3.must("aws", s3.endpoint("s3", "cp", "--no-progress", "holiday film.mp4", "s3://films/2026/holiday film.mp4")...)
			if out := s3.must("aws", s3.endpoint("s3", "ls", "s3://films/2026/")...); !strings.Contains(out, "104857600 holiday film.mp4") {
				t.Errorf("aws s3 ls does not show the plain size:\n%s", out)
			}
			d.kill()
			m.start("cofferd", "--config", m.path("coffer.toml"))
			eventually(t, "the gateway answers again", 30*time.Second, func() bool {
				_, _, code := s3.run("aws", s3.endpoint("s3", "ls")...)
				return code == 0
			})
			s3.must("aws", s3.endpoint("s3", "cp", "--no-progress", "s3://films/2026/holiday film.mp4", "back.mp4")...)
			got, err := os.ReadFile(s3.path("back.mp4"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Error("the file came back with other bytes")
			}
			notUpstream(t, dir, "films", "holiday", string(data[:32]), string(data[50<<20:50<<20+32]))
			s3.must("aws", s3.endpoint("s3", "rm", "s3://films/2026/holiday film.mp4")...)
			if out := s3.must("aws", s3.endpoint("s3", "ls", "--recursive", "s3://films")...); out != "" {
				t.Errorf("after rm there is still:\n%s", out)
			}
		})
	}
}

// An access key made while the daemon runs lets a program in at once, to its
// buckets and no further than its rights; removed, it lets in nobody.
func TestAccessKeys(t *testing.T) {
	flag, _, env := upstreams[0].open(t)
	m, s3, _ := gateway(t, flag, env)
	if err := os.WriteFile(s3.path("a"), []byte("milk, bread"), 0o600); err != nil {
		t.Fatal(err)
	}
	s3.must("aws", s3.endpoint("s3", "mb", "s3://photos-old")...)
	s3.must("aws", s3.endpoint("s3", "mb", "s3://films")...)
	s3.must("aws", s3.endpoint("s3", "cp", "--no-progress", "a", "s3://photos-old/a")...)
	as := func(id string) *machine {
		t.Helper()
		c := &machine{t: t, home: s3.home, env: []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "AWS_MAX_ATTEMPTS=1"}}
		for line := range strings.Lines(m.must("coffer", "s3", "env", "--key", id)) {
			c.env = append(c.env, strings.TrimSpace(strings.TrimPrefix(line, "export ")))
		}
		eventually(t, id+" is let in", 30*time.Second, func() bool {
			_, _, code := c.run("aws", c.endpoint("s3", "ls")...)
			return code == 0
		})
		return c
	}
	m.must("coffer", "s3", "key", "add", "reader", "--bucket", "photos*", "--read-only")
	m.must("coffer", "s3", "key", "add", "writer", "--bucket", "photos*")
	reader, writer := as("reader"), as("writer")
	if out := m.must("coffer", "s3", "key", "list"); !strings.Contains(out, "reader") || !strings.Contains(out, "photos*") {
		t.Errorf("list: %s", out)
	}
	for _, tt := range []struct {
		who     *machine
		allowed bool
		args    []string
	}{
		{reader, true, []string{"s3", "cp", "--no-progress", "s3://photos-old/a", "back"}},
		{reader, false, []string{"s3", "cp", "--no-progress", "a", "s3://photos-old/b"}},
		{reader, false, []string{"s3", "rm", "s3://photos-old/a"}},
		{reader, false, []string{"s3", "mb", "s3://photos-new"}},
		{reader, false, []string{"s3", "ls", "s3://films"}},
		{writer, true, []string{"s3", "mb", "s3://photos-new"}},
		{writer, true, []string{"s3", "cp", "--no-progress", "s3://photos-old/a", "s3://photos-new/a"}},
		{writer, false, []string{"s3", "cp", "--no-progress", "a", "s3://films/a"}},
		{writer, false, []string{"s3", "cp", "--no-progress", "s3://photos-old/a", "s3://films/a"}},
	} {
		out, errs, code := tt.who.run("aws", tt.who.endpoint(tt.args...)...)
		if (code == 0) != tt.allowed || !tt.allowed && !strings.Contains(errs, "AccessDenied") && !strings.Contains(errs, "Access Denied") {
			t.Errorf("aws %q: exit %d\n%s%s", tt.args, code, out, errs)
		}
	}
	if out := reader.must("aws", reader.endpoint("s3", "ls")...); strings.Contains(out, "films") || !strings.Contains(out, "photos-old") {
		t.Errorf("a reader sees: %s", out)
	}
	m.must("coffer", "s3", "key", "remove", "reader")
	eventually(t, "the reader is let in no more", 30*time.Second, func() bool {
		_, errs, code := reader.run("aws", reader.endpoint("s3", "ls")...)
		return code != 0 && strings.Contains(errs, "InvalidAccessKeyId")
	})
}

// notUpstream fails the test when any needle is in a name or in the bytes of any
// file below dir.
func notUpstream(t testing.TB, dir string, needles ...string) {
	t.Helper()
	var files int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var data []byte
		if d.Type().IsRegular() {
			files++
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		for _, n := range needles {
			if strings.Contains(d.Name(), n) || bytes.Contains(data, []byte(n)) {
				t.Errorf("upstream, %s holds %.20q", path, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Errorf("nothing lies upstream in %s", dir)
	}
}
