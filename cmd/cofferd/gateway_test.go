package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
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

// certificate writes a new self-signed certificate for 127.0.0.1 and returns its pool.
func (m *machine) certificate() *x509.CertPool {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		m.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	m.write("tls.crt", string(text))
	m.write("tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

const boto = `
import boto3, sys
s3 = boto3.client("s3")
s3.create_bucket(Bucket="boto")
body = bytes(range(256)) * 65536
s3.put_object(Bucket="boto", Key="a//b", Body=body)
assert s3.get_object(Bucket="boto", Key="a//b")["Body"].read() == body
s3.upload_file(sys.argv[1], "boto", "file")
assert s3.list_objects_v2(Bucket="boto")["KeyCount"] == 2
`

// TestTLS: real clients over TLS, HTTP/2, and a new certificate without a
// restart; half of one changes nothing.
func TestTLS(t *testing.T) {
	m := newMachine(t)
	m.config.Sources = nil
	m.config.Gateway.TLSCert, m.config.Gateway.TLSKey = m.path("tls.crt"), m.path("tls.key")
	m.writeConfig()
	old := m.certificate()
	p := m.start()
	address := p.logged("gateway")["listen"].(string)
	url := "https://" + address
	random := make([]byte, 20<<20)
	rand.Read(random)
	m.write("big", string(random))
	m.mustS3(url, "aws", "s3", "mb", "s3://bucket")
	m.mustS3(url, "aws", "s3", "cp", "--only-show-errors", m.path("big"), "s3://bucket/big")
	m.mustS3(url, "aws", "s3", "cp", "--only-show-errors", "s3://bucket/big", m.path("back"))
	if back, err := os.ReadFile(m.path("back")); err != nil || !bytes.Equal(back, random) {
		t.Errorf("%d bytes came back, want %d; %v", len(back), len(random), err)
	}
	m.mustS3(url, "python3", "-c", boto, m.path("big"))

	get := func(pool *x509.CertPool) (*http.Response, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url + "/bucket/big")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := get(old); err != nil || resp.ProtoMajor != 2 || resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %v, %v", resp, err)
	}
	if resp, err := http.Get("http://" + address + "/"); err == nil && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %s", resp.Status)
	}
	fresh := m.certificate()
	p.signal(syscall.SIGHUP)
	p.logged("configuration reloaded")
	if _, err := get(fresh); err != nil {
		t.Errorf("new certificate after SIGHUP: %v", err)
	}
	if _, err := get(old); err == nil {
		t.Error("the old certificate is still used")
	}
	m.write("tls.key", "no key")
	p.signal(syscall.SIGHUP)
	p.logged("configuration was not reloaded")
	if _, err := get(fresh); err != nil {
		t.Errorf("with half a certificate: %v", err)
	}
	last := m.certificate()
	for end := time.Now().Add(3 * certificateAge); ; time.Sleep(100 * time.Millisecond) {
		_, err := get(last)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("new certificate without SIGHUP: %v", err)
		}
	}
	p.stop()
}

// TestPlainBeyondLoopback: a socket of systemd's that other machines reach is not
// served without TLS.
func TestPlainBeyondLoopback(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, m.command().Path)
	cmd.Env = append(m.command().Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=s3")
	cmd.ExtraFiles = []*os.File{file}
	out, err := cmd.CombinedOutput()
	file.Close()
	if cmd.ProcessState.ExitCode() != exitConfig || !strings.Contains(string(out), "allow_plain") {
		t.Errorf("exit: %v\n%s", err, out)
	}
}
