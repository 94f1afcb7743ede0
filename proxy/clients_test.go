package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// sized files that clients send in different ways; the last goes in parts.
var treeSizes = map[string]int{
	"empty": 0, "one": 1, "small.txt": 1000, "dir/chunk": 65536, "dir/chunk+1": 65537, "dir/sub dir/ünï": 300000,
	"dir/stream": 3 << 20, "dir/parts.bin": 30 << 20,
}

// makeTree writes a tree of files with random bytes.
func makeTree(t testing.TB, dir string) {
	t.Helper()
	r := rand.NewChaCha8(sha256.Sum256([]byte("tree")))
	for name, size := range treeSizes {
		data := make([]byte, size)
		r.Read(data)
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		// Older than the upload, whose time S3 tells in whole seconds.
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
}

// digest lists the files of a tree with their hashes.
func digest(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		lines = append(lines, fmt.Sprintf("%x %d %s", sha256.Sum256(data), len(data), rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// shell runs client programs against a gateway.
type shell struct {
	t   testing.TB
	dir string
	env []string
}

func newShell(t testing.TB, g *gateway) *shell {
	dir := t.TempDir()
	s := &shell{t: t, dir: dir}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		// A proxy or a bundle of authorities of the machine is not for loopback.
		if !strings.HasPrefix(name, "AWS_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			s.env = append(s.env, v)
		}
	}
	s.env = append(s.env, "HOME="+dir,
		"AWS_ACCESS_KEY_ID="+testAccess, "AWS_SECRET_ACCESS_KEY="+testSecret, "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ENDPOINT_URL="+g.url, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "S3_ENDPOINT_URL="+g.url,
		"RCLONE_CONFIG_C_TYPE=s3", "RCLONE_CONFIG_C_PROVIDER=Other", "RCLONE_CONFIG_C_ACCESS_KEY_ID="+testAccess,
		"RCLONE_CONFIG_C_SECRET_ACCESS_KEY="+testSecret, "RCLONE_CONFIG_C_ENDPOINT="+g.url, "RCLONE_CONFIG_C_REGION=us-east-1",
		"RCLONE_CONFIG_C_UPLOAD_CUTOFF=10M", "RCLONE_CONFIG_C_CHUNK_SIZE=5M", "RCLONE_CONFIG_C_FORCE_PATH_STYLE=true",
		"RCLONE_LOG_LEVEL=INFO", "RCLONE_CONFIG="+filepath.Join(dir, "rclone.conf"), "RESTIC_PASSWORD=restic")
	if err := os.WriteFile(filepath.Join(dir, "rclone.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a command that must succeed and returns what it printed.
func (s *shell) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(name, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (s *shell) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// same compares a file that a client wrote with n bytes of original from off on.
func (s *shell) same(file, original string, off, n int) {
	s.t.Helper()
	got, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		s.t.Fatal(err)
	}
	want, err := os.ReadFile(original)
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Equal(got, want[off:off+n]) {
		s.t.Errorf("%s: %d other bytes than the %d of %s from %d on", file, len(got), n, original, off)
	}
}

// upstreams are what clients are tried over. They run beside each other: what a
// client takes is mostly its own start.
func upstreams(t *testing.T, f func(t *testing.T, g *gateway)) {
	t.Parallel()
	t.Run("folder", func(t *testing.T) { t.Parallel(); f(t, startGateway(t)) })
	t.Run("minio", func(t *testing.T) { t.Parallel(); f(t, startGateway(t, overMinIO(t))) })
}

// overMinIO puts a gateway over a real S3 store.
func overMinIO(t testing.TB) func(*Config) {
	endpoint, access, secret := testminio.Start(t)
	bucket, err := upstream.Open(t.Context(), upstream.Config{
		Type: "s3", Endpoint: endpoint, Bucket: fmt.Sprintf("proxy-%d", rand.Uint32()), Region: "us-east-1",
		AccessKey: access, SecretKey: upstream.NewSecret(secret), Create: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Bucket = bucket }
}

// TestAWS: the AWS command line, both generations that this machine has.
func TestAWS(t *testing.T) {
	upstreams(t, func(t *testing.T, g *gateway) {
		s := newShell(t, g)
		tree := filepath.Join(s.dir, "tree")
		makeTree(t, tree)
		s.run("aws", "s3", "mb", "s3://first")
		s.run("aws", "s3", "sync", "tree", "s3://first/t")
		if out := s.run("aws", "s3", "sync", "tree", "s3://first/t"); strings.Contains(out, "upload:") {
			t.Errorf("the second sync transferred:\n%s", out)
		}
		list := s.run("aws", "s3", "ls", "--recursive", "s3://first/")
		for name, size := range treeSizes {
			if !strings.Contains(list, fmt.Sprintf(" %d t/%s\n", size, name)) {
				t.Errorf("%s of %d bytes is not listed:\n%s", name, size, list)
			}
		}
		s.run("aws", "s3", "cp", "--recursive", "s3://first/t", "s3://first/copy")
		s.run("aws", "s3", "mv", "s3://first/copy/one", "s3://first/copy/two")
		s.run("aws", "s3", "mv", "s3://first/copy/two", "s3://first/copy/one")
		s.run("aws", "s3", "sync", "s3://first/copy", "back")
		if got, want := digest(t, filepath.Join(s.dir, "back")), digest(t, tree); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		s.run("aws", "s3api", "get-object", "--bucket", "first", "--key", "t/dir/parts.bin", "--range", "bytes=8388600-8388620", "range")
		s.same("range", filepath.Join(tree, "dir/parts.bin"), 8388600, 21)
		s.run("aws", "s3", "rm", "--recursive", "s3://first/")
		s.run("aws", "s3", "rb", "s3://first")
		if out := s.run("aws", "s3", "ls"); strings.Contains(out, "first") {
			t.Errorf("the bucket is still there:\n%s", out)
		}
	})
}

// TestRclone: it compares sizes and MD5, lists by version 1 and moves by copying.
func TestRclone(t *testing.T) {
	upstreams(t, func(t *testing.T, g *gateway) {
		s := newShell(t, g)
		tree := filepath.Join(s.dir, "tree")
		makeTree(t, tree)
		s.run("rclone", "mkdir", "c:rcl")
		s.run("rclone", "sync", "tree", "c:rcl/t")
		out := s.run("rclone", "sync", "--checksum", "tree", "c:rcl/t")
		if strings.Contains(out, "Copied") {
			t.Errorf("the second sync transferred:\n%s", out)
		}
		s.run("rclone", "check", "--download", "tree", "c:rcl/t")
		s.run("rclone", "copy", "c:rcl/t", "c:rcl/copy")
		s.run("rclone", "moveto", "c:rcl/copy/one", "c:rcl/copy/uno")
		s.run("rclone", "moveto", "c:rcl/copy/uno", "c:rcl/copy/one")
		s.run("rclone", "check", "tree", "c:rcl/copy")
		s.run("rclone", "copy", "c:rcl/copy", "back")
		if got, want := digest(t, filepath.Join(s.dir, "back")), digest(t, tree); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if got := s.run("rclone", "cat", "--log-level", "ERROR", "--offset", "65530", "--count", "10", "c:rcl/t/dir/stream"); len(got) != 10 {
			t.Errorf("a range of 10 bytes has %d", len(got))
		}
		s.run("rclone", "purge", "c:rcl")
	})
}

// TestS3cmd: signs in its own way, checks MD5 of parts, deletes many at once.
func TestS3cmd(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	s := newShell(t, g)
	tree := filepath.Join(s.dir, "tree")
	makeTree(t, tree)
	config := "[default]\naccess_key = " + testAccess + "\nsecret_key = " + testSecret + "\nhost_base = " + g.addr() +
		"\nhost_bucket = " + g.addr() + "\nuse_https = False\nmultipart_chunk_size_mb = 5\n"
	if err := os.WriteFile(filepath.Join(s.dir, ".s3cfg"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("s3cmd", "mb", "s3://cmd")
	s.run("s3cmd", "sync", "tree/", "s3://cmd/t/")
	if out := s.run("s3cmd", "sync", "tree/", "s3://cmd/t/"); strings.Contains(out, "upload:") {
		t.Errorf("the second sync transferred:\n%s", out)
	}
	s.run("s3cmd", "cp", "--recursive", "s3://cmd/t/", "s3://cmd/copy/")
	s.run("s3cmd", "mv", "s3://cmd/copy/one", "s3://cmd/copy/uno")
	s.run("s3cmd", "mv", "s3://cmd/copy/uno", "s3://cmd/copy/one")
	s.run("s3cmd", "info", "s3://cmd")
	s.run("s3cmd", "info", "s3://cmd/copy/one")
	s.run("s3cmd", "sync", "s3://cmd/copy/", "back/")
	if got, want := digest(t, filepath.Join(s.dir, "back")), digest(t, tree); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	parts, err := os.ReadFile(filepath.Join(tree, "dir/parts.bin"))
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "half"), parts[:len(parts)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.run("s3cmd", "get", "--continue", "s3://cmd/t/dir/parts.bin", "half") // the rest, by a range
	s.same("half", filepath.Join(tree, "dir/parts.bin"), 0, len(parts))
	s.run("s3cmd", "multipart", "s3://cmd")
	s.run("s3cmd", "del", "--recursive", "--force", "s3://cmd/")
	s.run("s3cmd", "rb", "s3://cmd")
}

// TestRestic: a backup program with the gateway as its repository.
func TestRestic(t *testing.T) {
	upstreams(t, func(t *testing.T, g *gateway) {
		s := newShell(t, g)
		tree := filepath.Join(s.dir, "tree")
		makeTree(t, tree)
		s.env = append(s.env, "RESTIC_REPOSITORY=s3:"+g.url+"/restic/repo", "RESTIC_CACHE_DIR="+filepath.Join(s.dir, "cache"))
		s.run("restic", "init")
		s.run("restic", "backup", "tree")
		s.run("restic", "backup", "tree")
		s.run("restic", "check", "--read-data")
		s.run("restic", "restore", "latest", "--target", "back")
		if got, want := digest(t, filepath.Join(s.dir, "back", "tree")), digest(t, tree); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		s.run("restic", "forget", "--keep-last", "1", "--prune")
	})
}

// TestS5cmd: many requests at once. The program is built by "make tools".
func TestS5cmd(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	s := newShell(t, g)
	tree := filepath.Join(s.dir, "tree")
	makeTree(t, tree)
	s5cmd, err := filepath.Abs("../.cache/bin/s5cmd")
	if err != nil {
		t.Fatal(err)
	}
	s.run(s5cmd, "mb", "s3://five")
	s.run(s5cmd, "sync", "--part-size", "5", "tree/", "s3://five/t/")
	if out := s.run(s5cmd, "sync", "tree/", "s3://five/t/"); strings.TrimSpace(out) != "" {
		t.Errorf("the second sync transferred:\n%s", out)
	}
	s.run(s5cmd, "cp", "s3://five/t/*", "s3://five/copy/")
	s.run(s5cmd, "mv", "s3://five/copy/one", "s3://five/copy/uno")
	s.run(s5cmd, "mv", "s3://five/copy/uno", "s3://five/copy/one")
	s.run(s5cmd, "cp", "s3://five/copy/*", "back/")
	if got, want := digest(t, filepath.Join(s.dir, "back")), digest(t, tree); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.run(s5cmd, "rm", "s3://five/*")
	s.run(s5cmd, "rb", "s3://five")
}

// TestMC: MinIO's client signs the chunks of its bodies, looks for versions, locks
// and tags, and mirrors. The program is built by "make tools".
func TestMC(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	s := newShell(t, g)
	tree := filepath.Join(s.dir, "tree")
	makeTree(t, tree)
	mc, err := filepath.Abs("../.cache/bin/mc")
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "MC_HOST_c="+strings.Replace(g.url, "http://", "http://"+testAccess+":"+testSecret+"@", 1))
	s.run(mc, "mb", "c/mmm")
	if out := s.run(mc, "mirror", "--json", "tree", "c/mmm/t"); !strings.Contains(out, `"source"`) {
		t.Errorf("the first mirror transferred nothing:\n%s", out)
	}
	if out := s.run(mc, "mirror", "--json", "tree", "c/mmm/t"); strings.Contains(out, `"source"`) {
		t.Errorf("the second mirror transferred:\n%s", out)
	}
	s.run(mc, "cp", "--recursive", "c/mmm/t/", "c/mmm/copy/")
	s.run(mc, "mv", "c/mmm/copy/one", "c/mmm/copy/uno")
	s.run(mc, "mv", "c/mmm/copy/uno", "c/mmm/copy/one")
	s.run(mc, "mirror", "c/mmm/copy", "back")
	if got, want := digest(t, filepath.Join(s.dir, "back")), digest(t, tree); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "tail"), []byte(s.run(mc, "cat", "--offset", "31457270", "c/mmm/t/dir/parts.bin")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.same("tail", filepath.Join(tree, "dir/parts.bin"), 31457270, 10)
	s.run(mc, "tag", "set", "c/mmm/t/one", "k=v")
	if out := s.run(mc, "stat", "c/mmm/t/one"); !strings.Contains(out, "one") {
		t.Errorf("stat: %s", out)
	}
	s.run(mc, "rm", "--recursive", "--force", "c/mmm")
	s.run(mc, "rb", "c/mmm")
}

// TestS3fs: a file system on the bucket renames by copying and writes in parts.
func TestS3fs(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	s := newShell(t, g)
	s.run("aws", "s3", "mb", "s3://mount")
	password := filepath.Join(s.dir, "passwd")
	if err := os.WriteFile(password, []byte(testAccess+":"+testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(s.dir, "mnt")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	s.run("s3fs", "mount", mount, "-o", "passwd_file="+password, "-o", "url="+g.url, "-o", "use_path_request_style", "-o", "multipart_size=10")
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			s.run("fusermount", "-u", mount)
		}
	}
	defer unmount()
	tree, copied := filepath.Join(s.dir, "tree"), filepath.Join(mount, "tree")
	makeTree(t, tree)
	s.run("cp", "-r", tree, mount)
	if got, want := digest(t, copied), digest(t, tree); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.run("mv", filepath.Join(copied, "dir"), filepath.Join(copied, "renamed"))
	s.run("mv", filepath.Join(copied, "renamed"), filepath.Join(copied, "dir"))
	s.run("chmod", "600", filepath.Join(copied, "one"))
	if got, want := digest(t, copied), digest(t, tree); got != want {
		t.Errorf("after renaming: got\n%s\nwant\n%s", got, want)
	}
	s.run("rm", "-r", copied)
	unmount()
}

// TestBoto3: the Python SDK as it is by default, over plain HTTP and over TLS,
// where it sends its checksums in unsigned trailers.
func TestBoto3(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "https"}[tls], func(t *testing.T) {
			t.Parallel()
			g := startGateway(t)
			if tls {
				g.restartTLS()
			}
			s := newShell(t, g)
			if tls {
				bundle := filepath.Join(s.dir, "ca.pem")
				cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.server.Certificate().Raw})
				if err := os.WriteFile(bundle, cert, 0o600); err != nil {
					t.Fatal(err)
				}
				s.env = append(s.env, "AWS_CA_BUNDLE="+bundle)
			}
			if err := os.WriteFile(filepath.Join(s.dir, "t.py"), []byte(boto3Script), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := s.run("python3", "t.py"); !strings.HasSuffix(out, "done\n") {
				t.Errorf("got %s", out)
			}
		})
	}
}

const boto3Script = `
import boto3, io, os, urllib.request, ssl
s3 = boto3.client('s3')
s3.create_bucket(Bucket='boto')
data = os.urandom(12 << 20)
s3.put_object(Bucket='boto', Key='a/b c', Body=b'small', Metadata={'k': 'v'}, Tagging='x=y')
s3.upload_fileobj(io.BytesIO(data), 'boto', 'large')
assert s3.get_object(Bucket='boto', Key='large')['Body'].read() == data
got = s3.get_object(Bucket='boto', Key='a/b c')
assert got['Body'].read() == b'small' and got['Metadata'] == {'k': 'v'}, got
for alg in ('CRC32', 'CRC32C', 'SHA1', 'SHA256', 'CRC64NVME'):
    try:
        s3.put_object(Bucket='boto', Key=alg, Body=data[:100000], ChecksumAlgorithm=alg)
    except Exception as e:
        if 'MissingDependency' in type(e).__name__ or 'AwsCrt' in str(e) or 'CRT' in str(e):
            continue
        raise
    assert s3.get_object(Bucket='boto', Key=alg, ChecksumMode='ENABLED')['Body'].read() == data[:100000]
s3.copy({'Bucket': 'boto', 'Key': 'large'}, 'boto', 'copy')
assert s3.get_object(Bucket='boto', Key='copy', Range='bytes=5-9')['Body'].read() == data[5:10]
assert s3.get_object_tagging(Bucket='boto', Key='a/b c')['TagSet'] == [{'Key': 'x', 'Value': 'y'}]
url = s3.generate_presigned_url('get_object', Params={'Bucket': 'boto', 'Key': 'a/b c'})
context = ssl.create_default_context(cafile=os.environ.get('AWS_CA_BUNDLE')) if url.startswith('https') else None
assert urllib.request.urlopen(url, context=context).read() == b'small'
try:
    s3.put_object(Bucket='boto', Key='large', Body=b'', IfNoneMatch='*')
    assert False, 'replaced'
except s3.exceptions.ClientError as e:
    assert e.response['Error']['Code'] == 'PreconditionFailed', e
keys = [o['Key'] for p in s3.get_paginator('list_objects_v2').paginate(Bucket='boto', PaginationConfig={'PageSize': 2}) for o in p['Contents']]
assert keys == sorted(keys) and 'a/b c' in keys, keys
out = s3.delete_objects(Bucket='boto', Delete={'Objects': [{'Key': k} for k in keys]})
assert len(out['Deleted']) == len(keys) and 'Errors' not in out, out
s3.delete_bucket(Bucket='boto')
print('done')
`
