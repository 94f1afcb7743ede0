package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// s3 runs a program that finds the gateway at url by its environment.
func (m *machine) s3(url string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(m.t.Context(), name, args...)
	for _, v := range os.Environ() {
		variable, _, _ := strings.Cut(v, "=")
		// A proxy or a bundle of authorities of the machine is not for loopback.
		if !strings.HasPrefix(variable, "AWS_") && !strings.HasSuffix(strings.ToLower(variable), "_proxy") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+m.dir, "AWS_ACCESS_KEY_ID=anna", "AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ENDPOINT_URL="+url, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1")
	if strings.HasPrefix(url, "https:") {
		cmd.Env = append(cmd.Env, "AWS_CA_BUNDLE="+m.path("tls.crt"))
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustS3 is s3 for what has to succeed.
func (m *machine) mustS3(url string, name string, args ...string) string {
	m.t.Helper()
	out, err := m.s3(url, name, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// TestSnapshotsBucket: any S3 program reads the backups as SOURCE/TIME/PATH,
// those of before as well, and writes none.
func TestSnapshotsBucket(t *testing.T) {
	m := newMachine(t)
	big := strings.Repeat("a line of the old file\n", 200_000) // several chunks
	m.write("docs/a file", big)
	m.mkdir("docs/sub")
	m.write("docs/sub/ü", "deep")
	if err := os.Symlink("a file", m.path("docs/link")); err != nil {
		t.Fatal(err)
	}
	p := m.start()
	p.saved(time.Time{})
	url := "http://" + p.logged("gateway")["listen"].(string)
	folder := func(uri string) (names []string) {
		t.Helper()
		for line := range strings.Lines(m.mustS3(url, "aws", "s3", "ls", uri)) {
			fields := strings.SplitN(strings.TrimSpace(line), " ", 2)
			if len(fields) == 2 {
				names = append(names, strings.TrimSpace(fields[1]))
			}
		}
		return names
	}
	if got := folder("s3://snapshots/"); len(got) != 1 || got[0] != "docs/" {
		t.Fatalf("sources: %q", got)
	}
	times := folder("s3://snapshots/docs/")
	if len(times) != 1 {
		t.Fatalf("snapshots: %q", times)
	}
	at := "s3://snapshots/docs/" + times[0]
	if got := m.mustS3(url, "aws", "s3", "ls", "--recursive", at); !strings.Contains(got, "a file") || !strings.Contains(got, "sub/ü") || strings.Contains(got, "link") {
		t.Errorf("files:\n%s", got)
	}

	before := time.Now()
	m.write("docs/a file", "new")
	p.saved(before)
	time.Sleep(snapshotsAge)
	if got := folder("s3://snapshots/docs/"); len(got) != 2 || got[0] != times[0] {
		t.Errorf("snapshots after a change: %q", got)
	}
	m.mustS3(url, "aws", "s3", "cp", "--only-show-errors", at+"a file", m.path("old"))
	if got, err := os.ReadFile(m.path("old")); err != nil || string(got) != big {
		t.Errorf("the old file has %d bytes, want %d; %v", len(got), len(big), err)
	}
	key := "docs/" + times[0] + "a file"
	m.mustS3(url, "aws", "s3api", "get-object", "--bucket", "snapshots", "--key", key, "--range", "bytes=2000002-3000001", m.path("range"))
	if got, err := os.ReadFile(m.path("range")); err != nil || string(got) != big[2000002:3000002] {
		t.Errorf("a range has %d bytes; %v", len(got), err)
	}
	for _, args := range [][]string{
		{"s3", "cp", "--only-show-errors", m.path("old"), at + "new"},
		{"s3", "rm", at + "a file"},
		{"s3api", "head-object", "--bucket", "snapshots", "--key", "docs/none/x"},
		{"s3api", "head-object", "--bucket", "snapshots", "--key", "docs/" + times[0] + "link"},
	} {
		if out, err := m.s3(url, "aws", args...); err == nil {
			t.Errorf("aws %q succeeded:\n%s", args, out)
		}
	}
	p.stop()
}
