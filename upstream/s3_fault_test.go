package upstream_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// wire is a network that fails as told. A nil answer of before lets the request
// through; after sees what came back.
type wire struct {
	mu     sync.Mutex
	sent   []string // "PUT" or "GET?uploadId"
	before func(n int, r *http.Request) (*http.Response, error)
	after  func(n int, r *http.Response) (*http.Response, error)
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	n := len(w.sent)
	w.sent = append(w.sent, r.Method)
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil {
		if resp, err := before(n, r); resp != nil || err != nil {
			if r.Body != nil {
				_ = r.Body.Close() // as RoundTrip must
			}
			return resp, err
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && after != nil {
		return after(n, resp)
	}
	return resp, err
}

// reset forgets what was sent, and fails from now on as told.
func (w *wire) reset(before func(int, *http.Request) (*http.Response, error), after func(int, *http.Response) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent, w.before, w.after = nil, before, after
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

func answer(r *http.Request, status int, code string) *http.Response {
	body := fmt.Sprintf("<Error><Code>%s</Code><Message>as told</Message></Error>", code)
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}
}

var errBroken = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}

// lose lets the request take effect and loses the answer.
func lose(times int) func(int, *http.Response) (*http.Response, error) {
	return func(n int, r *http.Response) (*http.Response, error) {
		if n >= times {
			return r, nil
		}
		return nil, errors.Join(errBroken, r.Body.Close())
	}
}

// cutBody breaks the first answers after some bytes.
type cutBody struct {
	io.ReadCloser
	left int
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func openWire(t *testing.T, retries int) (upstream.Bucket, *wire) {
	t.Helper()
	w := &wire{}
	c := s3Config(t, testminio.StartServer(t))
	c.Transport, c.Retries, c.Region = w, retries, "us-east-1"
	b, err := upstream.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	w.reset(nil, nil)
	return b, w
}

// A store that is busy or a network that breaks is not the end, and what was sent
// twice must be what was meant, whole.
func TestRetry(t *testing.T) {
	b, w := openWire(t, 3)
	data := randomBytes(300_000)
	w.reset(func(n int, r *http.Request) (*http.Response, error) {
		switch n {
		case 0:
			if _, err := io.CopyN(io.Discard, r.Body, 1000); err != nil { // some of it is gone
				return nil, err
			}
			return answer(r, 503, "SlowDown"), nil
		case 1:
			return nil, errBroken
		}
		return nil, nil
	}, nil)
	put(t, b, "object", data, upstream.PutOptions{})
	if w.count() != 3 {
		t.Errorf("%d requests, want 3", w.count())
	}
	w.reset(nil, lose(1))
	put(t, b, "object", data, upstream.PutOptions{})
	if got, _ := get(t, b, "object", 0, -1); !bytes.Equal(got, data) {
		t.Errorf("%d other bytes", len(got))
	}
	w.reset(nil, lose(1))
	if err := b.Delete(t.Context(), "object"); err != nil {
		t.Error(err)
	}
}

// What can only be sent once, or might undo its own success, is not sent again.
func TestNoRetry(t *testing.T) {
	b, w := openWire(t, 3)
	w.reset(nil, lose(1))
	_, err := b.Put(t.Context(), "stream", onlyReader{strings.NewReader("data")}, 4, upstream.PutOptions{})
	if !errors.Is(err, upstream.ErrUnavailable) || w.count() != 1 {
		t.Errorf("stream: %v after %d requests", err, w.count())
	}
	w.reset(nil, lose(1))
	_, err = b.Put(t.Context(), "cond", strings.NewReader("data"), 4, upstream.PutOptions{IfAbsent: true})
	if !errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrExists) || w.count() != 1 {
		t.Errorf("IfAbsent: %v after %d requests", err, w.count())
	}
	w.reset(func(n int, r *http.Request) (*http.Response, error) {
		if n == 0 {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}
		return nil, nil
	}, nil)
	put(t, b, "cond2", []byte("data"), upstream.PutOptions{IfAbsent: true}) // nobody can have acted on it
	w.reset(func(n int, r *http.Request) (*http.Response, error) { return answer(r, 403, "AccessDenied"), nil }, nil)
	if _, err := b.Head(t.Context(), "cond"); err == nil || errors.Is(err, upstream.ErrUnavailable) || w.count() != 1 {
		t.Errorf("denied: %v after %d requests", err, w.count())
	}
	w.reset(func(n int, r *http.Request) (*http.Response, error) { return nil, errBroken }, nil)
	if _, err := b.Head(t.Context(), "cond"); !errors.Is(err, upstream.ErrUnavailable) || w.count() != 4 {
		t.Errorf("always broken: %v after %d requests, want 4", err, w.count())
	}
}

// The answer to a completion that took effect is lost: the second try finds no
// upload, and must not report a failure.
func TestCompleteLost(t *testing.T) {
	b, w := openWire(t, 3)
	start := func(name string) (string, []upstream.Part) {
		id, err := b.StartMultipart(t.Context(), name, upstream.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return id, []upstream.Part{part(t, b, name, id, 1, randomBytes(5<<20)), part(t, b, name, id, 2, []byte("end"))}
	}
	for _, o := range []upstream.PutOptions{{}, {IfAbsent: true}} {
		name := fmt.Sprint("object", o.IfAbsent)
		id, parts := start(name)
		w.reset(nil, lose(1))
		info, err := b.CompleteMultipart(t.Context(), name, id, parts, o)
		if err != nil || info.Size != 5<<20+3 {
			t.Errorf("%+v, %v", info, err)
		}
		w.reset(nil, nil)
	}
	// Somebody else's object is no success of ours.
	id, parts := start("other")
	put(t, b, "other", []byte("x"), upstream.PutOptions{})
	w.reset(func(n int, r *http.Request) (*http.Response, error) {
		if n == 0 {
			return nil, errBroken
		}
		return nil, nil
	}, nil)
	if _, err := b.CompleteMultipart(t.Context(), "other", id, parts, upstream.PutOptions{IfAbsent: true}); !errors.Is(err, upstream.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
}

// A cut answer is resumed where it broke, and when that is not possible it is an
// error: bytes that are missing at the end would pass for a shorter object.
func TestCutBody(t *testing.T) {
	data := randomBytes(1 << 20)
	cut := func(times int) func(int, *http.Response) (*http.Response, error) {
		return func(n int, r *http.Response) (*http.Response, error) {
			if n < times {
				r.Body = &cutBody{r.Body, 100_000}
			}
			return r, nil
		}
	}
	b, w := openWire(t, 4)
	put(t, b, "object", data, upstream.PutOptions{})
	w.reset(nil, cut(3))
	if got, _ := get(t, b, "object", 10, -1); !bytes.Equal(got, data[10:]) || w.count() != 4 {
		t.Errorf("%d bytes in %d requests", len(got), w.count())
	}
	w.reset(nil, cut(2))
	if got, _ := get(t, b, "object", -300_000, 250_000); !bytes.Equal(got, data[len(data)-300_000:len(data)-50_000]) {
		t.Errorf("%d bytes of a range", len(got))
	}
	w.reset(nil, cut(100))
	got, err := getError(t, b, "object", 0, -1)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, upstream.ErrUnavailable) || len(got) != 500_000 {
		t.Errorf("%d bytes, %v, want 500000 and io.ErrUnexpectedEOF", len(got), err)
	}
	// The rest of another object must not be put behind the beginning of this.
	w.reset(nil, cut(1))
	r, _, err := b.Get(t.Context(), "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "object", randomBytes(1<<20+1), upstream.PutOptions{})
	got, err = io.ReadAll(r)
	if !errors.Is(err, upstream.ErrExists) || !bytes.Equal(got, data[:100_000]) {
		t.Errorf("%d bytes, %v, want ErrExists", len(got), err)
	}
}

// A peer that stands still must not hold us for ever, wherever it stops.
func TestIdle(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && r.URL.Path == "/bucket/" {
			return // the bucket
		}
		if r.Method == http.MethodGet {
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("begin"))
			w.(http.Flusher).Flush()
		}
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(stop)
	b, err := upstream.Open(t.Context(), upstream.Config{
		Type: "s3", Endpoint: server.URL, Bucket: "bucket", Region: "us-east-1", AccessKey: "access", SecretKey: upstream.NewSecret("secret"),
		Timeout: 100 * time.Millisecond, Retries: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, errHead := b.Head(t.Context(), "object")
	_, errPut := b.Put(t.Context(), "object", bytes.NewReader(randomBytes(8<<20)), 8<<20, upstream.PutOptions{})
	got, errGet := getError(t, b, "object", 0, -1)
	for i, err := range []error{errHead, errPut, errGet} {
		if !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("%d: got %v, want ErrUnavailable", i, err)
		}
	}
	if string(got) != "begin" || !errors.Is(errGet, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, errGet)
	}
}

// A reader that takes its time is no fault of the store's.
func TestSlowReader(t *testing.T) {
	c := s3Config(t, testminio.StartServer(t))
	c.Timeout, c.Retries = 300*time.Millisecond, -1
	b, err := upstream.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	data := randomBytes(200_000)
	slow := readerFunc(func(p []byte) (int, error) {
		time.Sleep(400 * time.Millisecond)
		return copy(p, data), nil
	})
	if _, err := b.Put(t.Context(), "object", io.LimitReader(io.MultiReader(io.LimitReader(slow, 10), bytes.NewReader(data)), 100_000), 100_000, upstream.PutOptions{}); err != nil {
		t.Error(err)
	}
	put(t, b, "object", data, upstream.PutOptions{})
	r, _, err := b.Get(t.Context(), "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	time.Sleep(400 * time.Millisecond)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TLS must be checked against the authority that is given, and only that.
func TestTLS(t *testing.T) {
	server := testminio.StartServer(t)
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(to)) // keeps Host, which is signed
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := s3Config(t, server)
	c.Endpoint, c.TLS.CAFile = front.URL, ca
	b, err := upstream.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	data := randomBytes(1 << 20)
	put(t, b, "object", data, upstream.PutOptions{})
	if _, err := b.Put(t.Context(), "stream", onlyReader{bytes.NewReader(data)}, 1<<20, upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"object", "stream"} {
		if got, _ := get(t, b, name, 0, -1); !bytes.Equal(got, data) {
			t.Errorf("%s: %d other bytes", name, len(got))
		}
	}
	c.TLS.CAFile = ""
	if _, err := upstream.Open(t.Context(), c); err == nil || errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("unknown authority: %v", err)
	}
}

// A store that lies about lists and ranges must be found out.
func TestLyingStore(t *testing.T) {
	b, w := openWire(t, -1)
	listing := func(keys ...string) func(int, *http.Request) (*http.Response, error) {
		return func(_ int, r *http.Request) (*http.Response, error) {
			var x strings.Builder
			x.WriteString("<ListBucketResult>")
			for _, k := range keys {
				fmt.Fprintf(&x, "<Contents><Key>%s</Key><Size>1</Size></Contents>", k)
			}
			x.WriteString("</ListBucketResult>")
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(x.String())), Request: r}, nil
		}
	}
	nothing := func(upstream.Info) error { return nil }
	for _, keys := range [][]string{{"pre/fix-b", "pre/fix-a"}, {"pre/fix-a", "pre/fix-a"}, {"other"}} {
		w.reset(listing(keys...), nil)
		if err := b.List(t.Context(), "", "", nothing); !errors.Is(err, upstream.ErrDamaged) {
			t.Errorf("%q: got %v, want ErrDamaged", keys, err)
		}
	}
	object := func(status int, header ...string) func(int, *http.Request) (*http.Response, error) {
		return func(_ int, r *http.Request) (*http.Response, error) {
			h := http.Header{"Last-Modified": {time.Now().UTC().Format(http.TimeFormat)}, "Content-Length": {"10"}}
			for i := 0; i < len(header); i += 2 {
				h.Set(header[i], header[i+1])
			}
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("0123456789")), Request: r}, nil
		}
	}
	for name, lie := range map[string]func(int, *http.Request) (*http.Response, error){
		"range ignored": object(200),
		"other range":   object(206, "Content-Range", "bytes 6-15/100"),
		"no numbers":    object(206, "Content-Range", "bytes x-y/z"),
		"beyond":        object(206, "Content-Range", "bytes 5-15/10"),
	} {
		w.reset(lie, nil)
		if _, err := getError(t, b, "object", 5, 10); !errors.Is(err, upstream.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	w.reset(object(206, "Content-Range", "bytes 5-19/20"), nil) // and sends ten bytes
	if _, err := getError(t, b, "object", 5, 15); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short range: %v", err)
	}
}

// flip changes one bit of a body on its way.
type flip struct {
	io.ReadCloser
	at int
}

func (f *flip) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if f.at >= 0 && f.at < n {
		p[f.at] ^= 1
	}
	f.at -= n
	return n, err
}

// A bit that flips on the way must not be stored: without TLS nothing beneath us
// sees it, and the sealed object would be lost.
func TestFlippedOnTheWire(t *testing.T) {
	b, w := openWire(t, -1)
	id, err := b.StartMultipart(t.Context(), "parts", upstream.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data := randomBytes(200_000)
	w.reset(func(_ int, r *http.Request) (*http.Response, error) {
		r.Body = &flip{r.Body, 100_000}
		return nil, nil
	}, nil)
	_, errBytes := b.Put(t.Context(), "bytes", bytes.NewReader(data), 200_000, upstream.PutOptions{})
	_, errStream := b.Put(t.Context(), "stream", onlyReader{bytes.NewReader(data)}, 200_000, upstream.PutOptions{})
	_, errPart := b.PutPart(t.Context(), "parts", id, 1, bytes.NewReader(data), 200_000)
	if errBytes == nil || errStream == nil || errPart == nil {
		t.Errorf("stored: %v, %v, %v", errBytes, errStream, errPart)
	}
	w.reset(nil, nil)
	if names := list(t, b, "", ""); len(names) != 0 {
		t.Errorf("stored: %q", names)
	}
}

// Errors of the store that callers branch on.
func TestAnswers(t *testing.T) {
	b, w := openWire(t, -1)
	for _, tt := range []struct {
		status int
		code   string
		want   error
	}{
		{404, "NoSuchKey", upstream.ErrNotExist}, {412, "PreconditionFailed", upstream.ErrExists}, {409, "ConditionalRequestConflict", upstream.ErrExists},
		{503, "SlowDown", upstream.ErrUnavailable}, {500, "InternalError", upstream.ErrUnavailable}, {429, "TooMany", upstream.ErrUnavailable},
		{507, "XMinioStorageFull", upstream.ErrFull}, {409, "OperationAborted", upstream.ErrUnavailable}, {502, "", upstream.ErrUnavailable},
	} {
		w.reset(func(_ int, r *http.Request) (*http.Response, error) { return answer(r, tt.status, tt.code), nil }, nil)
		if _, err := b.Put(t.Context(), "object", strings.NewReader("x"), 1, upstream.PutOptions{}); !errors.Is(err, tt.want) {
			t.Errorf("%d %s: got %v, want %v", tt.status, tt.code, err, tt.want)
		}
	}
}

// Wrong or missing keys are said as what they are, and never shown.
func TestCredentials(t *testing.T) {
	server := testminio.StartServer(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	c := s3Config(t, server)
	c.AccessKey, c.SecretKey = "", upstream.Secret{}
	for _, env := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(env, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
	if _, err := upstream.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no access key") {
		t.Errorf("without a key: %v", err)
	}
	profile := c
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file("credentials", "[default]\naws_access_key_id = "+server.Access+"\naws_secret_access_key = "+server.Secret+"\n"))
	if _, err := upstream.Open(t.Context(), profile); err != nil {
		t.Errorf("from the profile: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", server.Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.Secret)
	if _, err := upstream.Open(t.Context(), c); err != nil {
		t.Errorf("from the environment: %v", err)
	}
	files := c
	files.AccessKeyFile, files.SecretKeyFile = file("access", server.Access+"\n"), file("secret", server.Secret+"\n")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if _, err := upstream.Open(t.Context(), files); err != nil {
		t.Errorf("from files: %v", err)
	}
	files.SecretKeyFile = file("two", "a\nb\n")
	if _, err := upstream.Open(t.Context(), files); err == nil {
		t.Error("a file of two lines is taken")
	}
	const canary = "canary-secret-value"
	wrong := c
	wrong.AccessKey, wrong.SecretKey = server.Access, upstream.NewSecret(canary)
	_, err := upstream.Open(t.Context(), wrong)
	if err == nil || errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("wrong secret: %v", err)
	}
	for _, s := range []string{fmt.Sprint(err), fmt.Sprintf("%v %+v %#v %s %x", wrong, wrong, wrong, wrong.SecretKey, wrong.SecretKey)} {
		if strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) {
			t.Errorf("the secret is shown: %s", s)
		}
	}
}

func TestBucketMissing(t *testing.T) {
	c := s3Config(t, testminio.StartServer(t))
	c.Create = false
	if _, err := upstream.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "does not exist") || errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []upstream.Config{
		{}, {Type: "ftp"}, {Type: "s3"}, {Type: "s3", Endpoint: "host:9000", Bucket: "b"}, {Type: "s3", Endpoint: "https://host/path", Bucket: "b"},
		{Type: "s3", Endpoint: "https://user:pass@host", Bucket: "b"}, {Type: "s3", Endpoint: c.Endpoint}, {Type: "s3", Endpoint: c.Endpoint, Bucket: "b", TLS: upstream.TLS{CAFile: "/none"}},
	} {
		if _, err := upstream.Open(t.Context(), bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// What the storage costs is counted by kind.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := s3Config(t, testminio.StartServer(t))
	c.Metrics = reg
	for range 2 { // opened again as after a reload
		b, err := upstream.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		put(t, b, "object", randomBytes(1000), upstream.PutOptions{})
		get(t, b, "object", 0, -1)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	if got["requests_total put 2xx"] != 3 || got["requests_total get 2xx"] != 2 || got["received_bytes_total"] < 2000 || got["sent_bytes_total"] < 2000 {
		t.Errorf("got %v", got)
	}
}
