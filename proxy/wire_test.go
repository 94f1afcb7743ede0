package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// wire is a client that signs by itself and lets a test bend every byte.
type wire struct {
	t      testing.TB
	g      *gateway
	secret string
	access string
}

func newWire(t testing.TB, g *gateway) *wire {
	return &wire{t: t, g: g, access: testAccess, secret: testSecret}
}

// call is one request on its way.
type call struct {
	method  string
	path    string // as sent, encoded
	query   string // as sent, encoded
	header  http.Header
	body    []byte
	payload string // X-Amz-Content-Sha256; "" is the hash of body
}

// answered is what came back.
type answered struct {
	status int
	header http.Header
	body   []byte
}

func (a answered) code() string {
	var e struct{ Code string }
	_ = xml.Unmarshal(a.body, &e)
	return e.Code
}

func (w *wire) request(c call) *http.Request {
	w.t.Helper()
	target := w.g.url + c.path
	if c.query != "" {
		target += "?" + c.query
	}
	r, err := http.NewRequest(c.method, target, bytes.NewReader(c.body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	if c.payload == "" {
		sum := sha256.Sum256(c.body)
		c.payload = hex.EncodeToString(sum[:])
	}
	r.Header.Set("X-Amz-Content-Sha256", c.payload)
	if r.Header.Get("X-Amz-Date") == "" {
		r.Header.Set("X-Amz-Date", time.Now().UTC().Format(amzDateLayout))
	}
	return r
}

// sign signs r as a client does, without a line of the code under test.
func (w *wire) sign(r *http.Request) (seed string) {
	date := r.Header.Get("X-Amz-Date")
	names := []string{"host"}
	for name := range r.Header {
		names = append(names, strings.ToLower(name))
	}
	sortStrings(names)
	var headers strings.Builder
	for _, name := range names {
		v := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			v = r.URL.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(v) + "\n")
	}
	query := strings.Split(strings.ReplaceAll(r.URL.RawQuery, "/", "%2F"), "&")
	for i, q := range query {
		if q != "" && !strings.Contains(q, "=") {
			query[i] = q + "="
		}
	}
	sortStrings(query)
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), headers.String(),
		strings.Join(names, ";"), r.Header.Get("X-Amz-Content-Sha256")}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	scope := date[:8] + "/us-east-1/s3/aws4_request"
	seed = hex.EncodeToString(mac(w.key(date), "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hex.EncodeToString(sum[:])))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+w.access+"/"+scope+",SignedHeaders="+strings.Join(names, ";")+",Signature="+seed)
	return seed
}

func (w *wire) key(date string) []byte {
	return mac(mac(mac(mac([]byte("AWS4"+w.secret), date[:8]), "us-east-1"), "s3"), "aws4_request")
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, data)
	return h.Sum(nil)
}

func sortStrings(s []string) {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

func (w *wire) send(r *http.Request) answered {
	w.t.Helper()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return answered{res.StatusCode, res.Header, body}
}

func (w *wire) do(c call) answered {
	w.t.Helper()
	r := w.request(c)
	w.sign(r)
	return w.send(r)
}

// must demands a status of the answer.
func (w *wire) must(c call, status int) answered {
	w.t.Helper()
	a := w.do(c)
	if a.status != status {
		w.t.Fatalf("%s %s?%s: status %d, want %d\n%s", c.method, c.path, c.query, a.status, status, a.body)
	}
	return a
}

func (w *wire) get(path string) answered {
	w.t.Helper()
	return w.must(call{method: "GET", path: path}, 200)
}

func newBucket(t testing.TB, change ...func(*Config)) *wire {
	w := newWire(t, startGateway(t, change...))
	w.must(call{method: "PUT", path: "/bucket"}, 200)
	return w
}

func header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// chunked frames data as aws-chunked, signed from seed on if it is not empty. A
// trailer of the form "name:value" goes behind it.
func (w *wire) chunked(data []byte, size int, seed, date, trailer string) []byte {
	var b bytes.Buffer
	scope := date[:8] + "/us-east-1/s3/aws4_request"
	empty := sha256.Sum256(nil)
	write := func(chunk []byte) {
		extension := ""
		if seed != "" {
			sum := sha256.Sum256(chunk)
			seed = hex.EncodeToString(mac(w.key(date), "AWS4-HMAC-SHA256-PAYLOAD\n"+date+"\n"+scope+"\n"+seed+"\n"+hex.EncodeToString(empty[:])+"\n"+hex.EncodeToString(sum[:])))
			extension = ";chunk-signature=" + seed
		}
		fmt.Fprintf(&b, "%x%s\r\n", len(chunk), extension)
		if len(chunk) > 0 {
			b.Write(chunk)
			b.WriteString("\r\n")
		}
	}
	for len(data) > 0 {
		n := min(size, len(data))
		write(data[:n])
		data = data[n:]
	}
	write(nil)
	if trailer != "" {
		b.WriteString(trailer + "\r\n")
		if seed != "" {
			sum := sha256.Sum256([]byte(trailer + "\n"))
			b.WriteString("x-amz-trailer-signature:" + hex.EncodeToString(mac(w.key(date), "AWS4-HMAC-SHA256-TRAILER\n"+date+"\n"+scope+"\n"+seed+"\n"+hex.EncodeToString(sum[:]))) + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// putForms puts data in each of the forms that a body can have.
func (w *wire) putForms(form, path, query string, data []byte, bend func([]byte) []byte) answered {
	w.t.Helper()
	date := time.Now().UTC().Format(amzDateLayout)
	sum := algCRC32.new()
	sum.Write(data)
	crc := base64.StdEncoding.EncodeToString(sum.Sum(nil))
	c := call{method: "PUT", path: path, query: query, body: data, header: header("X-Amz-Date", date)}
	trailer := ""
	switch form {
	case "UNSIGNED-PAYLOAD":
		c.payload = form
	case "hash":
		sum := sha256.Sum256(data)
		c.payload = hex.EncodeToString(sum[:])
	default:
		c.payload = form
		c.header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(data)))
		c.header.Set("Content-Encoding", "aws-chunked")
		if strings.HasSuffix(form, "TRAILER") {
			trailer = "x-amz-checksum-crc32:" + crc
			c.header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		}
	}
	r := w.request(c)
	seed := w.sign(r)
	if strings.HasPrefix(form, "STREAMING") {
		if strings.Contains(form, "UNSIGNED") {
			seed = ""
		}
		data = w.chunked(data, 8192, seed, date, trailer)
	}
	if bend != nil {
		data = bend(bytes.Clone(data))
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	return w.send(r)
}

var forms = []string{
	"hash", "UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
	"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
}

// TestPayloadForms: PutObject and UploadPart take all five forms, store the plain
// bytes and not the framing, and refuse a body that was changed on its way
// whenever the form protects it.
func TestPayloadForms(t *testing.T) {
	w := newBucket(t)
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for _, size := range []int{0, 1, 20000, 2 << 20} {
		data := randomBytes(1, size)
		sum := md5.Sum(data)
		for _, form := range forms {
			a := w.putForms(form, "/bucket/"+form, "", data, nil)
			if a.status != 200 || a.header.Get("Etag") != fmt.Sprintf(`"%x"`, sum) {
				t.Errorf("%s of %d bytes: %d, ETag %s\n%s", form, size, a.status, a.header.Get("Etag"), a.body)
				continue
			}
			got := w.get("/bucket/" + form)
			if !bytes.Equal(got.body, data) || got.header.Get("Content-Encoding") != "" {
				t.Errorf("%s of %d bytes: got %d, encoding %q", form, size, len(got.body), got.header.Get("Content-Encoding"))
			}
			if form == "UNSIGNED-PAYLOAD" || size < 20000 {
				continue
			}
			if a := w.putForms(form, "/bucket/bent", "", data, flip(size/2)); a.status/100 != 4 {
				t.Errorf("%s of %d bytes: a changed body is taken: %d", form, size, a.status)
			}
			if a := w.do(call{method: "GET", path: "/bucket/bent"}); a.status != 404 {
				t.Errorf("%s: a changed body became visible: %d", form, a.status)
			}
		}
	}
	upload := w.startUpload("/bucket/parts")
	for i, form := range forms {
		data := randomBytes(byte(i), 100000)
		sum := md5.Sum(data)
		a := w.putForms(form, "/bucket/parts", fmt.Sprintf("partNumber=%d&uploadId=%s", i+1, upload), data, nil)
		if a.status != 200 || a.header.Get("Etag") != fmt.Sprintf(`"%x"`, sum) {
			t.Errorf("part as %s: %d, ETag %s\n%s", form, a.status, a.header.Get("Etag"), a.body)
		}
	}
}

func (w *wire) startUpload(path string, pairs ...string) string {
	w.t.Helper()
	a := w.must(call{method: "POST", path: path, query: "uploads=", header: header(pairs...)}, 200)
	var out struct{ UploadId string }
	if err := xml.Unmarshal(a.body, &out); err != nil || out.UploadId == "" {
		w.t.Fatalf("no upload id in %s", a.body)
	}
	return out.UploadId
}

// TestChunkSignatures: a chunk that is moved, left out or signed for another body
// is refused, and so is a body that ends early.
func TestChunkSignatures(t *testing.T) {
	w := newBucket(t)
	data := randomBytes(1, 3*8192)
	const form = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	frame := 8192 + len("2000;chunk-signature=") + 64 + 4
	for _, tt := range []struct {
		name string
		bend func([]byte) []byte
		code string
	}{
		{"swapped", func(b []byte) []byte {
			return append(append(append([]byte{}, b[frame:2*frame]...), b[:frame]...), b[2*frame:]...)
		}, "SignatureDoesNotMatch"},
		{"left out", func(b []byte) []byte { return b[frame:] }, "SignatureDoesNotMatch"},
		{"cut in a chunk", func(b []byte) []byte { return b[:frame+100] }, "IncompleteBody"},
		{"cut between chunks", func(b []byte) []byte { return b[:2*frame] }, "IncompleteBody"},
		{"no signature", func(b []byte) []byte { return bytes.Replace(b, []byte(";chunk-signature="), []byte(";"), 1) }, "IncompleteBody"},
		{"bad size", func(b []byte) []byte { return append([]byte("x"), b...) }, "IncompleteBody"},
		{"huge size", func(b []byte) []byte { return append([]byte("7fffffffffffffff"), b[4:]...) }, "IncompleteBody"},
		{"long line", func(b []byte) []byte { return append(bytes.Repeat([]byte("0"), 10000), b...) }, "IncompleteBody"},
	} {
		a := w.putForms(form, "/bucket/key", "", data, tt.bend)
		if a.code() != tt.code {
			t.Errorf("%s: %d %s, want %s", tt.name, a.status, a.code(), tt.code)
		}
	}
	if a := w.do(call{method: "HEAD", path: "/bucket/key"}); a.status != 404 {
		t.Errorf("something became visible: %d", a.status)
	}
}

// TestTrailer: a checksum in a trailer is compared, and one that was announced
// must come.
func TestTrailer(t *testing.T) {
	w := newBucket(t)
	data := randomBytes(1, 9000)
	for _, form := range forms[3:] {
		a := w.putForms(form, "/bucket/key", "", data, func(b []byte) []byte {
			return bytes.Replace(b, []byte("x-amz-checksum-crc32:"), []byte("x-amz-checksum-crc32:A"), 1)
		})
		if a.status != 400 && a.status != 403 {
			t.Errorf("%s with a bad checksum: %d %s", form, a.status, a.code())
		}
		a = w.putForms(form, "/bucket/key", "", data, func(b []byte) []byte {
			at := bytes.Index(b, []byte("x-amz-checksum-crc32:"))
			return append(b[:at], "\r\n"...)
		})
		if a.code() != "MalformedTrailerError" {
			t.Errorf("%s without its trailer: %d %s", form, a.status, a.code())
		}
	}
}

// TestChecksums: all five are verified, kept, and given back when asked for; not
// for a range.
func TestChecksums(t *testing.T) {
	w := newBucket(t)
	data := randomBytes(1, 70000)
	for _, a := range algorithms {
		h := a.new()
		h.Write(data)
		sum := base64.StdEncoding.EncodeToString(h.Sum(nil))
		path := "/bucket/" + string(a)
		put := w.must(call{method: "PUT", path: path, body: data, header: header(a.header(), sum)}, 200)
		if put.header.Get(a.header()) != sum || put.header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
			t.Errorf("%s: the answer to PUT says %q, want %q", a, put.header.Get(a.header()), sum)
		}
		got := w.must(call{method: "GET", path: path, header: header("X-Amz-Checksum-Mode", "ENABLED")}, 200)
		if got.header.Get(a.header()) != sum {
			t.Errorf("%s: GET says %q, want %q", a, got.header.Get(a.header()), sum)
		}
		if got := w.must(call{method: "GET", path: path}, 200); got.header.Get(a.header()) != "" {
			t.Errorf("%s: GET says a checksum that nobody asked for", a)
		}
		got = w.must(call{method: "GET", path: path, header: header("X-Amz-Checksum-Mode", "ENABLED", "Range", "bytes=0-9")}, 206)
		if got.header.Get(a.header()) != "" {
			t.Errorf("%s: a range has the checksum of the whole", a)
		}
		bad := w.do(call{method: "PUT", path: path, body: data[1:], header: header(a.header(), sum)})
		if bad.status != 400 || bad.code() != "BadDigest" {
			t.Errorf("%s: a wrong checksum: %d %s", a, bad.status, bad.code())
		}
		bad = w.do(call{method: "PUT", path: path, body: data, header: header(a.header(), "bm9uc2Vuc2U=")})
		if bad.status != 400 {
			t.Errorf("%s: nonsense as checksum: %d", a, bad.status)
		}
	}
	w.must(call{method: "PUT", path: "/bucket/none", body: data}, 200)
	if got := w.must(call{method: "HEAD", path: "/bucket/none", header: header("X-Amz-Checksum-Mode", "ENABLED")}, 200); got.header.Get("X-Amz-Checksum-Crc64nvme") == "" {
		t.Error("no CRC64NVME was added to an object without a checksum")
	}
}

// TestContentMD5 is checked, also in its form.
func TestContentMD5(t *testing.T) {
	for _, etag := range []string{"md5", "opaque"} {
		w := newBucket(t, func(c *Config) { c.ETag = etag })
		data := []byte("milk, bread")
		sum := md5.Sum(data)
		good := base64.StdEncoding.EncodeToString(sum[:])
		a := w.must(call{method: "PUT", path: "/bucket/key", body: data, header: header("Content-Md5", good)}, 200)
		if isMD5 := a.header.Get("Etag") == fmt.Sprintf(`"%x"`, sum); isMD5 != (etag == "md5") {
			t.Errorf("%s: ETag %s", etag, a.header.Get("Etag"))
		}
		for value, code := range map[string]string{"AAAAAAAAAAAAAAAAAAAAAA==": "BadDigest", "nonsense": "InvalidDigest", "": "InvalidDigest"} {
			a := w.do(call{method: "PUT", path: "/bucket/key", body: data, header: http.Header{"Content-Md5": {value}}})
			if a.status != 400 || a.code() != code {
				t.Errorf("%s: MD5 %q: %d %s, want %s", etag, value, a.status, a.code(), code)
			}
		}
	}
}

// TestAgreement: size, ETag and time of an object are the same in PUT, HEAD, GET and
// both listings, whatever way it came.
func TestAgreement(t *testing.T) {
	for _, etag := range []string{"md5", "opaque"} {
		w := newBucket(t, func(c *Config) { c.ETag = etag })
		for _, size := range []int{0, 1, 65536, 65537, 1 << 20, 1<<20 + 1} {
			path := fmt.Sprintf("/bucket/k%d", size)
			put := w.must(call{method: "PUT", path: path, body: randomBytes(1, size)}, 200)
			head := w.must(call{method: "HEAD", path: path}, 200)
			get := w.get(path)
			etag := put.header.Get("Etag")
			if head.header.Get("Etag") != etag || get.header.Get("Etag") != etag || !strings.HasPrefix(etag, `"`) {
				t.Errorf("%d bytes: ETags %s, %s, %s", size, etag, head.header.Get("Etag"), get.header.Get("Etag"))
			}
			if head.header.Get("Content-Length") != fmt.Sprint(size) || len(get.body) != size {
				t.Errorf("%d bytes: HEAD says %s, GET gives %d", size, head.header.Get("Content-Length"), len(get.body))
			}
			when, err := http.ParseTime(head.header.Get("Last-Modified"))
			if err != nil {
				t.Fatal(err)
			}
			for _, query := range []string{"prefix=k" + fmt.Sprint(size), "list-type=2&prefix=k" + fmt.Sprint(size)} {
				list := w.must(call{method: "GET", path: "/bucket", query: query}, 200)
				want := fmt.Sprintf("<Key>k%d</Key><LastModified>%s</LastModified><ETag>&#34;%s&#34;</ETag>", size, when.UTC().Format("2006-01-02T15:04:05.000Z"), strings.Trim(etag, `"`))
				if !bytes.Contains(list.body, []byte(want)) || !bytes.Contains(list.body, fmt.Appendf(nil, "<Size>%d</Size>", size)) {
					t.Errorf("%d bytes: want %s in\n%s", size, want, list.body)
				}
			}
		}
	}
}

// TestLengths: what S3 demands of Content-Length.
func TestLengths(t *testing.T) {
	w := newBucket(t)
	r := w.request(call{method: "PUT", path: "/bucket/key", payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", body: []byte("0\r\n\r\n")})
	w.sign(r)
	if a := w.send(r); a.status != 411 {
		t.Errorf("chunks without x-amz-decoded-content-length: %d", a.status)
	}
	r = w.request(call{method: "PUT", path: "/bucket/key", payload: "UNSIGNED-PAYLOAD"})
	w.sign(r)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("some bytes, who knows how many")), -1
	if a := w.send(r); a.status != 200 {
		t.Errorf("a body of unknown length: %d\n%s", a.status, a.body)
	}
	if got := w.get("/bucket/key"); string(got.body) != "some bytes, who knows how many" {
		t.Errorf("got %q", got.body)
	}
}

// TestOddKeys: any bytes are a key, and each is itself only.
func TestOddKeys(t *testing.T) {
	keys := []string{
		"a", "a/", "a//b", "a/b", "/a", "//a", "./x", "a/../b", "a/..", "a/./b", "x\x01y", "x\x00y", "x\x00", "é", "\xff\xfe", "+ %&?#=",
		strings.Repeat("s", 300), strings.Repeat("long/", 204) + "long", strings.Repeat("ü", 512), "~", ".bucket", "a.o", "a.v" + strings.Repeat("0", 32), "a%2Fb", "trailing ",
	}
	for _, names := range []string{"sealed", "clear"} {
		t.Run(names, func(t *testing.T) {
			w := newBucket(t, func(c *Config) { c.Names = names })
			for _, key := range keys {
				w.must(call{method: "PUT", path: "/bucket/" + awsEncode(key, false), body: []byte("at " + key)}, 200)
			}
			check := func() {
				for _, key := range keys {
					if got := w.get("/bucket/" + awsEncode(key, false)); string(got.body) != "at "+key {
						t.Errorf("%q: got %q", key, got.body)
					}
				}
				sorted := append([]string{}, keys...)
				sortStrings(sorted)
				if got := w.listAll("list-type=2&max-keys=3", "continuation-token", "NextContinuationToken"); strings.Join(got, "\n") != strings.Join(sorted, "\n") {
					t.Errorf("got  %q\nwant %q", got, sorted)
				}
				if got := w.listAll("max-keys=2", "marker", "NextMarker"); strings.Join(got, "\n") != strings.Join(sorted, "\n") {
					t.Errorf("got  %q\nwant %q", got, sorted)
				}
			}
			check()
			w.g.stop()
			w.g.config.StateDir = t.TempDir() // the index is lost
			w.g.start()
			check()
			for _, key := range keys {
				w.must(call{method: "DELETE", path: "/bucket/" + awsEncode(key, false)}, 204)
			}
			w.must(call{method: "DELETE", path: "/bucket"}, 204)
		})
	}
}

// TestNoKeys: what S3 takes for no key is refused wherever a key can stand.
func TestNoKeys(t *testing.T) {
	w := newBucket(t)
	for _, key := range []string{".", "..", "./", "/.", "//", "../", "/..", "../x", "a/../../b", "/a/../.././.."} {
		path := awsEncode(key, false)
		if a := w.do(call{method: "PUT", path: "/bucket/" + path}); a.status != 400 || a.code() != "400" {
			t.Errorf("PUT of %q: %d %s", key, a.status, a.code())
		}
		a := w.do(call{method: "PUT", path: "/bucket/copy", header: header("X-Amz-Copy-Source", "bucket/"+path)})
		if a.status != 400 || a.code() != "InvalidArgument" {
			t.Errorf("copy of %q: %d %s", key, a.status, a.code())
		}
	}
}

// listAll pages through a bucket and returns the decoded keys.
func (w *wire) listAll(query, parameter, element string) []string {
	w.t.Helper()
	var keys []string
	token := ""
	for range 1000 {
		q := "encoding-type=url&" + query
		if token != "" {
			q += "&" + parameter + "=" + awsEncode(token, true)
		}
		a := w.must(call{method: "GET", path: "/bucket", query: q}, 200)
		var out struct {
			IsTruncated           bool
			NextContinuationToken string
			NextMarker            string
			Contents              []struct{ Key string }
		}
		if err := xml.Unmarshal(a.body, &out); err != nil {
			w.t.Fatal(err)
		}
		for _, c := range out.Contents {
			key, err := url.QueryUnescape(c.Key)
			if err != nil {
				w.t.Fatal(err)
			}
			keys = append(keys, key)
		}
		if !out.IsTruncated {
			return keys
		}
		token = out.NextContinuationToken
		if element == "NextMarker" {
			token, _ = url.QueryUnescape(out.NextMarker)
		}
	}
	w.t.Fatal("a listing without end")
	return nil
}
