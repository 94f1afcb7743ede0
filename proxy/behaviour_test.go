package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"coffer/seal"
	"coffer/upstream"
)

// TestRanges: each form of Range, at the edges of chunks and of parts.
func TestRanges(t *testing.T) {
	w := newBucket(t)
	data := randomBytes(1, 11<<20)
	put(t, w.g.client(), "parts", data) // 5 + 5 + 1 MiB
	w.must(call{method: "PUT", path: "/bucket/one", body: data[:200000]}, 200)
	for path, data := range map[string][]byte{"/bucket/parts": data, "/bucket/one": data[:200000]} {
		n := len(data)
		for _, tt := range []struct {
			header   string
			from, to int
		}{
			{"bytes=0-0", 0, 1}, {"bytes=65535-65536", 65535, 65537}, {"bytes=65536-", 65536, n}, {"bytes=-1", n - 1, n},
			{fmt.Sprintf("bytes=-%d", n+5), 0, n}, {fmt.Sprintf("bytes=%d-%d", n-70000, n+9), n - 70000, n},
			{fmt.Sprintf("bytes=0-%d", n-1), 0, n},
		} {
			a := w.must(call{method: "GET", path: path, header: header("Range", tt.header)}, 206)
			if !bytes.Equal(a.body, data[tt.from:tt.to]) {
				t.Errorf("%s %s: %d other bytes", path, tt.header, len(a.body))
			}
			if want := fmt.Sprintf("bytes %d-%d/%d", tt.from, tt.to-1, n); a.header.Get("Content-Range") != want {
				t.Errorf("%s %s: Content-Range %q, want %q", path, tt.header, a.header.Get("Content-Range"), want)
			}
		}
		for _, h := range []string{"bytes=0-1,3-4", "chars=0-1", "bytes=5-2", "bytes=x-"} {
			if a := w.must(call{method: "GET", path: path, header: header("Range", h)}, 200); len(a.body) != n {
				t.Errorf("%s %s: %d bytes", path, h, len(a.body))
			}
		}
		if a := w.do(call{method: "GET", path: path, header: header("Range", fmt.Sprintf("bytes=%d-", n))}); a.code() != "InvalidRange" || a.status != 416 {
			t.Errorf("%s behind the end: %d %s", path, a.status, a.code())
		}
	}
	five := 5 << 20
	a := w.must(call{method: "GET", path: "/bucket/parts", query: "partNumber=2"}, 206)
	if !bytes.Equal(a.body, data[five:2*five]) || a.header.Get("X-Amz-Mp-Parts-Count") != "3" {
		t.Errorf("part 2: %d bytes, of %s parts", len(a.body), a.header.Get("X-Amz-Mp-Parts-Count"))
	}
	across := fmt.Sprintf("bytes=%d-%d", five-10, five+10)
	if a := w.must(call{method: "GET", path: "/bucket/parts", header: header("Range", across)}, 206); !bytes.Equal(a.body, data[five-10:five+11]) {
		t.Errorf("across parts: %d other bytes", len(a.body))
	}
}

// TestReadConditions: the four conditions of HTTP, and their order.
func TestReadConditions(t *testing.T) {
	w := newBucket(t)
	put := w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	etag := put.header.Get("Etag")
	past, future := httpTime(time.Now().Add(-time.Hour)), httpTime(time.Now().Add(time.Hour))
	for _, tt := range []struct {
		headers []string
		status  int
	}{
		{[]string{"If-Match", etag}, 200}, {[]string{"If-Match", strings.Trim(etag, `"`)}, 200}, {[]string{"If-Match", `"no"`}, 412},
		{[]string{"If-None-Match", etag}, 304}, {[]string{"If-None-Match", "*"}, 304}, {[]string{"If-None-Match", `"no"`}, 200},
		{[]string{"If-Modified-Since", past}, 200}, {[]string{"If-Modified-Since", future}, 304},
		{[]string{"If-Unmodified-Since", past}, 412}, {[]string{"If-Unmodified-Since", future}, 200},
		{[]string{"If-Match", etag, "If-Unmodified-Since", past}, 200}, {[]string{"If-None-Match", `"no"`, "If-Modified-Since", future}, 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if a := w.do(call{method: method, path: "/bucket/key", header: header(tt.headers...)}); a.status != tt.status {
				t.Errorf("%s with %q: %d, want %d", method, tt.headers, a.status, tt.status)
			}
		}
	}
}

// TestWriteConditions: of many writers that want to be the first, one is; of
// many that saw the same object, one replaces it.
func TestWriteConditions(t *testing.T) {
	w := newBucket(t)
	race := func(headers http.Header) int32 {
		var won atomic.Int32
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				a := w.do(call{method: "PUT", path: "/bucket/lock", body: fmt.Append(nil, i), header: headers.Clone()})
				if a.status == 200 {
					won.Add(1)
				} else if a.status != 412 {
					t.Errorf("a loser is told %d", a.status)
				}
			})
		}
		group.Wait()
		return won.Load()
	}
	if n := race(header("If-None-Match", "*")); n != 1 {
		t.Errorf("%d writers were the first", n)
	}
	etag := w.get("/bucket/lock").header.Get("Etag")
	if n := race(header("If-Match", etag)); n != 1 && n != 2 { // the one that wrote the same bytes again keeps the ETag
		t.Errorf("%d writers replaced the same object", n)
	}
	if a := w.do(call{method: "PUT", path: "/bucket/none", header: header("If-Match", `"x"`)}); a.status != 404 {
		t.Errorf("If-Match on nothing: %d", a.status)
	}
	upload := w.startUpload("/bucket/lock")
	part := w.must(call{method: "PUT", path: "/bucket/lock", query: "partNumber=1&uploadId=" + upload, body: []byte("part")}, 200)
	body := fmt.Sprintf("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>", part.header.Get("Etag"))
	a := w.do(call{method: "POST", path: "/bucket/lock", query: "uploadId=" + upload, body: []byte(body), header: header("If-None-Match", "*")})
	if a.status != 412 {
		t.Errorf("Complete over an object: %d", a.status)
	}
}

// TestMultipart: parts in any order, again with other bytes, of odd sizes; what
// was not listed is not in the object.
func TestMultipart(t *testing.T) {
	for _, etag := range []string{"md5", "opaque"} {
		w := newBucket(t, func(c *Config) { c.ETag = etag })
		upload := w.startUpload("/bucket/key", "X-Amz-Meta-Name", "value")
		etags := make(map[int]string)
		putPart := func(number int, data []byte) {
			a := w.must(call{method: "PUT", path: "/bucket/key", query: fmt.Sprintf("partNumber=%d&uploadId=%s", number, upload), body: data}, 200)
			etags[number] = a.header.Get("Etag")
		}
		five := 5 << 20
		first, second, last := randomBytes(1, five), randomBytes(2, five+777), randomBytes(3, 1234)
		putPart(10000, last)
		putPart(7, second)
		putPart(2, randomBytes(9, five+5))
		putPart(2, []byte("small"))
		putPart(2, first) // from the spool to the upstream
		putPart(3, []byte("not listed"))
		list := func(numbers ...int) []byte {
			var b strings.Builder
			b.WriteString("<CompleteMultipartUpload>")
			for _, n := range numbers {
				fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n, cmp.Or(etags[n], "none"))
			}
			b.WriteString("</CompleteMultipartUpload>")
			return []byte(b.String())
		}
		complete := call{method: "POST", path: "/bucket/key", query: "uploadId=" + upload}
		for code, numbers := range map[string][]int{"InvalidPartOrder": {7, 2}, "InvalidPart": {2, 4}, "EntityTooSmall": {3, 7}} {
			complete.body = list(numbers...)
			if a := w.do(complete); a.code() != code {
				t.Errorf("completing %v: %d %s, want %s", numbers, a.status, a.code(), code)
			}
		}
		w.g.restart() // the state survives
		complete.body = list(2, 7, 10000)
		a := w.must(complete, 200)
		again := w.must(complete, 200)
		var done, same struct{ ETag string }
		if err := errors.Join(xml.Unmarshal(a.body, &done), xml.Unmarshal(again.body, &same)); err != nil || done != same {
			t.Errorf("%v: completed twice: %v and %v", err, done, same)
		}
		want := bytes.Join([][]byte{first, second, last}, nil)
		got := w.get("/bucket/key")
		if !bytes.Equal(got.body, want) || got.header.Get("X-Amz-Meta-Name") != "value" || got.header.Get("Etag") != done.ETag {
			t.Errorf("%s: got %d bytes, want %d; %s and %s", etag, len(got.body), len(want), got.header.Get("Etag"), done.ETag)
		}
		if etag == "md5" {
			sums := md5.New()
			for _, part := range [][]byte{first, second, last} {
				sum := md5.Sum(part)
				sums.Write(sum[:])
			}
			if want := fmt.Sprintf(`"%x-3"`, sums.Sum(nil)); done.ETag != want {
				t.Errorf("ETag %s, want %s", done.ETag, want)
			}
		}
		crc := algCRC64NVME.new()
		crc.Write(want)
		head := w.must(call{method: "HEAD", path: "/bucket/key", header: header("X-Amz-Checksum-Mode", "ENABLED")}, 200)
		if sum := base64.StdEncoding.EncodeToString(crc.Sum(nil)); head.header.Get(algCRC64NVME.header()) != sum {
			t.Errorf("CRC64NVME %s, want %s: the combination of the parts is wrong", head.header.Get(algCRC64NVME.header()), sum)
		}
		other := w.startUpload("/bucket/other")
		w.must(call{method: "PUT", path: "/bucket/other", query: "partNumber=1&uploadId=" + other, body: []byte("x")}, 200)
		w.must(call{method: "DELETE", path: "/bucket/other", query: "uploadId=" + other}, 204)
		if a := w.do(call{method: "GET", path: "/bucket/other", query: "uploadId=" + other}); a.code() != "NoSuchUpload" {
			t.Errorf("an aborted upload: %d %s", a.status, a.code())
		}
	}
}

// TestCombine: CRCs of parts combine to that of the whole, whatever the cuts.
func TestCombine(t *testing.T) {
	data := randomBytes(1, 100000)
	for _, a := range algorithms {
		if !a.isCRC() {
			continue
		}
		var parts []sized
		for from, size := 0, 1; from < len(data); from, size = from+size, size*3 {
			part := data[from:min(from+size, len(data))]
			h := a.new()
			h.Write(part)
			parts = append(parts, sized{sumOf(a, h).value, int64(len(part))})
		}
		h := a.new()
		h.Write(data)
		if got, err := combine(a, typeFull, parts); err != nil || got != sumOf(a, h).value {
			t.Errorf("%s: %s, %v; want %s", a, got, err, sumOf(a, h).value)
		}
	}
}

// TestPresigned: URLs of both kinds, as boto3 makes them.
func TestPresigned(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket/dir/a%20key", body: []byte("found")}, 200)
	u, err := w.g.client().PresignedGetObject(t.Context(), "bucket", "dir/a key", time.Hour, url.Values{"response-content-type": {"text/x"}})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(u string) answered {
		r, err := http.NewRequest("GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.send(r)
	}
	if a := fetch(u.String()); string(a.body) != "found" || a.header.Get("Content-Type") != "text/x" {
		t.Errorf("V4: %d %q as %s", a.status, a.body, a.header.Get("Content-Type"))
	}
	if a := fetch(u.String() + "&versionId=null"); a.code() != "SignatureDoesNotMatch" {
		t.Errorf("V4 with another parameter: %d %s", a.status, a.code())
	}
	v2 := func(expires time.Time, resource string) string {
		stamp := fmt.Sprint(expires.Unix())
		m := hmac.New(sha1.New, []byte(testSecret))
		io.WriteString(m, "GET\n\n\n"+stamp+"\n"+resource)
		return w.g.url + resource + "?AWSAccessKeyId=" + testAccess + "&Expires=" + stamp + "&Signature=" + url.QueryEscape(base64.StdEncoding.EncodeToString(m.Sum(nil)))
	}
	if a := fetch(v2(time.Now().Add(time.Hour), "/bucket/dir/a%20key")); string(a.body) != "found" {
		t.Errorf("V2: %d %s", a.status, a.body)
	}
	if a := fetch(v2(time.Now().Add(-time.Hour), "/bucket/dir/a%20key")); a.status != 403 {
		t.Errorf("V2, expired: %d", a.status)
	}
	if a := fetch(strings.Replace(v2(time.Now().Add(time.Hour), "/bucket/dir/a%20key"), "dir", "div", 1)); a.code() != "SignatureDoesNotMatch" {
		t.Errorf("V2 for another key: %d %s", a.status, a.code())
	}
}

// TestHostStyle: the bucket in the name of the host.
func TestHostStyle(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("found")}, 200)
	r := w.request(call{method: "GET", path: "/key"})
	_, port, _ := strings.Cut(w.g.addr(), ":")
	r.Host = "bucket.localhost:" + port
	r.URL.Host = r.Host
	w.sign(r)
	r.URL.Host = w.g.addr()
	if a := w.send(r); string(a.body) != "found" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestVersions: what versions are there, which is read, and what a delete does;
// all of it again from an index that was rebuilt.
func TestVersions(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("null")}, 200)
	w.must(call{method: "PUT", path: "/bucket", query: "versioning=", body: []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")}, 200)
	one := w.must(call{method: "PUT", path: "/bucket/key", body: []byte("one")}, 200).header.Get("X-Amz-Version-Id")
	two := w.must(call{method: "PUT", path: "/bucket/key", body: []byte("two")}, 200).header.Get("X-Amz-Version-Id")
	w.must(call{method: "PUT", path: "/bucket/key", query: "tagging=&versionId=" + one, body: []byte("<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>")}, 200)
	marker := w.must(call{method: "DELETE", path: "/bucket/key"}, 204)
	if marker.header.Get("X-Amz-Delete-Marker") != "true" {
		t.Errorf("no delete marker: %v", marker.header)
	}
	check := func(when string) {
		t.Helper()
		for id, want := range map[string]string{"null": "null", one: "one", two: "two"} {
			if a := w.must(call{method: "GET", path: "/bucket/key", query: "versionId=" + id}, 200); string(a.body) != want {
				t.Errorf("%s: version %s is %q, want %q", when, id, a.body, want)
			}
		}
		if a := w.do(call{method: "GET", path: "/bucket/key"}); a.code() != "NoSuchKey" || a.header.Get("X-Amz-Delete-Marker") != "true" {
			t.Errorf("%s: behind a marker: %d %s", when, a.status, a.code())
		}
		list := w.must(call{method: "GET", path: "/bucket", query: "versions="}, 200)
		order := []string{"<DeleteMarker ", "<VersionId>" + two, "<VersionId>" + one, "<VersionId>null"}
		at := 0
		for _, s := range order {
			i := bytes.Index(list.body[at:], []byte(s))
			if i < 0 {
				t.Fatalf("%s: %s is not there in order:\n%s", when, s, list.body)
			}
			at += i
		}
		if list := w.must(call{method: "GET", path: "/bucket", query: "list-type=2"}, 200); bytes.Contains(list.body, []byte("<Contents>")) {
			t.Errorf("%s: a deleted key is listed", when)
		}
		if a := w.must(call{method: "GET", path: "/bucket/key", query: "tagging=&versionId=" + one}, 200); !bytes.Contains(a.body, []byte("<Value>v</Value>")) {
			t.Errorf("%s: tags: %s", when, a.body)
		}
	}
	check("at first")
	w.g.stop()
	w.g.config.StateDir = t.TempDir()
	w.g.start()
	check("rebuilt")
	w.must(call{method: "DELETE", path: "/bucket/key", query: "versionId=" + marker.header.Get("X-Amz-Version-Id")}, 204)
	if a := w.get("/bucket/key"); string(a.body) != "two" {
		t.Errorf("without the marker: %q", a.body)
	}
}

// TestObjectLock: a protected version is not removed.
func TestObjectLock(t *testing.T) {
	w := newWire(t, startGateway(t))
	w.must(call{method: "PUT", path: "/bucket", header: header("X-Amz-Bucket-Object-Lock-Enabled", "true")}, 200)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	id := w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x"), header: header("X-Amz-Object-Lock-Mode", "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date", until)}, 200).header.Get("X-Amz-Version-Id")
	version := call{method: "DELETE", path: "/bucket/key", query: "versionId=" + id}
	if a := w.do(version); a.code() != "AccessDenied" {
		t.Errorf("a retained version: %d %s", a.status, a.code())
	}
	w.must(call{method: "PUT", path: "/bucket/key", query: "legal-hold=", body: []byte("<LegalHold><Status>ON</Status></LegalHold>")}, 200)
	version.header = header("X-Amz-Bypass-Governance-Retention", "true")
	if a := w.do(version); a.code() != "AccessDenied" {
		t.Errorf("a version on hold: %d %s", a.status, a.code())
	}
	w.must(call{method: "PUT", path: "/bucket/key", query: "legal-hold=", body: []byte("<LegalHold><Status>OFF</Status></LegalHold>")}, 200)
	w.must(version, 204)
}

// TestCopy: the bytes stay where they are; metadata is kept, or replaced, also
// onto itself, and survives a rebuild.
func TestCopy(t *testing.T) {
	g, l := startLying(t)
	w := newWire(t, g)
	w.must(call{method: "PUT", path: "/bucket"}, 200)
	data := randomBytes(1, 300000)
	w.must(call{method: "PUT", path: "/bucket/from", body: data, header: header("X-Amz-Meta-A", "1", "Content-Type", "text/x", "X-Amz-Tagging", "k=v")}, 200)
	bytesPut := 0
	l.after = func(op, _ string) error {
		if op == "put" || op == "get" {
			bytesPut++
		}
		return nil
	}
	w.must(call{method: "PUT", path: "/bucket/kept", header: header("X-Amz-Copy-Source", "/bucket/from")}, 200)
	w.must(call{method: "PUT", path: "/bucket/other", header: header("X-Amz-Copy-Source", "bucket/from", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-B", "2")}, 200)
	w.must(call{method: "PUT", path: "/bucket/from", header: header("X-Amz-Copy-Source", "bucket/from", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-C", "3")}, 200)
	if bytesPut != 0 {
		t.Errorf("three copies moved bytes %d times", bytesPut)
	}
	l.after = nil
	if a := w.do(call{method: "PUT", path: "/bucket/from", header: header("X-Amz-Copy-Source", "bucket/from")}); a.code() != "InvalidRequest" {
		t.Errorf("a copy onto itself that changes nothing: %d %s", a.status, a.code())
	}
	long := strings.Repeat("x", 2000) // more than an envelope holds
	w.must(call{method: "PUT", path: "/bucket/long", header: header("X-Amz-Copy-Source", "bucket/kept", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-L", long)}, 200)
	check := func(when string) {
		for path, want := range map[string][2]string{"kept": {"X-Amz-Meta-A", "1"}, "other": {"X-Amz-Meta-B", "2"}, "from": {"X-Amz-Meta-C", "3"}, "long": {"X-Amz-Meta-L", long}} {
			a := w.get("/bucket/" + path)
			if !bytes.Equal(a.body, data) || a.header.Get(want[0]) != want[1] || path != "kept" && a.header.Get("X-Amz-Meta-A") != "" {
				t.Errorf("%s: %s: %d bytes, %v", when, path, len(a.body), a.header)
			}
		}
		if a := w.get("/bucket/kept"); a.header.Get("Content-Type") != "text/x" || a.header.Get("X-Amz-Tagging-Count") != "1" {
			t.Errorf("%s: %v", when, a.header)
		}
	}
	check("at first")
	g.stop()
	g.config.StateDir = t.TempDir()
	g.start()
	check("rebuilt")
}

// TestRights: an access key reaches its buckets only, and writes only if it may.
func TestRights(t *testing.T) {
	w := newBucket(t, func(c *Config) {
		c.Access = append(c.Access,
			AccessKey{ID: "READER", Secret: NewSecret("reader-secret"), Rights: "read"},
			AccessKey{ID: "SCOPED", Secret: NewSecret("scoped-secret"), Buckets: []string{"team-*", "shared"}})
	})
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	reader := &wire{t: t, g: w.g, access: "READER", secret: "reader-secret"}
	scoped := &wire{t: t, g: w.g, access: "SCOPED", secret: "scoped-secret"}
	reader.must(call{method: "GET", path: "/bucket/key"}, 200)
	for _, c := range []call{
		{method: "PUT", path: "/bucket/key"}, {method: "DELETE", path: "/bucket/key"}, {method: "POST", path: "/bucket/key", query: "uploads="},
		{method: "POST", path: "/bucket", query: "delete="}, {method: "PUT", path: "/new"}, {method: "DELETE", path: "/bucket"},
	} {
		if a := reader.do(c); a.status != 403 {
			t.Errorf("a reader may %s %s: %d", c.method, c.path, a.status)
		}
		if a := scoped.do(c); a.status != 403 {
			t.Errorf("a stranger may %s %s: %d", c.method, c.path, a.status)
		}
	}
	scoped.must(call{method: "PUT", path: "/team-one"}, 200)
	if a := scoped.do(call{method: "PUT", path: "/team-one/copy", header: header("X-Amz-Copy-Source", "bucket/key")}); a.status != 403 {
		t.Errorf("a copy out of a bucket that is not the key's: %d", a.status)
	}
	if a := scoped.must(call{method: "GET", path: "/"}, 200); bytes.Contains(a.body, []byte("<Name>bucket<")) || !bytes.Contains(a.body, []byte("team-one")) {
		t.Errorf("buckets: %s", a.body)
	}
	access := AccessKey{ID: testAccess, Secret: NewSecret(testSecret)}
	if err := w.g.SetAccess([]AccessKey{access, access}); err == nil {
		t.Error("a key twice")
	}
	scoped.must(call{method: "GET", path: "/team-one"}, 200) // as before
	if err := w.g.SetAccess([]AccessKey{access}); err != nil {
		t.Fatal(err)
	}
	if a := scoped.do(call{method: "GET", path: "/team-one"}); a.code() != "InvalidAccessKeyId" {
		t.Errorf("a key that was removed: %d %s", a.status, a.code())
	}
	if err := w.g.SetAccess(nil); err != nil {
		t.Fatal(err)
	}
	if a := w.do(call{method: "GET", path: "/bucket/key"}); a.code() != "InvalidAccessKeyId" {
		t.Errorf("the last key that was removed: %d %s", a.status, a.code())
	}
	if err := w.g.SetAccess([]AccessKey{access}); err != nil {
		t.Fatal(err)
	}
	wrong := &wire{t: t, g: w.g, access: testAccess, secret: "wrong"}
	if a := wrong.do(call{method: "GET", path: "/bucket/key"}); a.code() != "SignatureDoesNotMatch" {
		t.Errorf("a wrong secret: %d %s", a.status, a.code())
	}
	if a := w.send(w.request(call{method: "GET", path: "/bucket/key"})); a.code() != "AccessDenied" {
		t.Errorf("nobody: %d %s", a.status, a.code())
	}
}

// TestAuthenticatesFirst: a stranger is sent away before the body is asked for.
func TestAuthenticatesFirst(t *testing.T) {
	w := newBucket(t)
	r := w.request(call{method: "PUT", path: "/bucket/key", payload: "UNSIGNED-PAYLOAD"})
	w.sign(r)
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), testAccess, "STRANGER", 1))
	r.Header.Set("Expect", "100-continue")
	asked := false
	r.Body, r.ContentLength = io.NopCloser(readerFunc(func([]byte) (int, error) { asked = true; return 0, io.EOF })), 1<<30
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 403 || asked {
		t.Errorf("status %d, body asked for: %t", res.StatusCode, asked)
	}
}

// TestContinue: a client that waits before it sends is told to go on, also when
// what it has is nothing. botocore goes wrong on the next request of a connection
// on which it was not.
func TestContinue(t *testing.T) {
	w := newBucket(t)
	for _, body := range []string{"", "x"} {
		r := w.request(call{method: "PUT", path: "/bucket/key", body: []byte(body)})
		w.sign(r)
		r.Header.Set("Expect", "100-continue")
		var early []int
		r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(status int, _ textproto.MIMEHeader) error { early = append(early, status); return nil },
		}))
		transport := &http.Transport{ExpectContinueTimeout: time.Minute}
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		transport.CloseIdleConnections()
		if res.StatusCode != 200 || !slices.Equal(early, []int{100}) {
			t.Errorf("%q: status %d after %v", body, res.StatusCode, early)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// lockedKeys is a keyring that is locked until it is opened.
type lockedKeys struct{ keys atomic.Pointer[seal.Keys] }

func (l *lockedKeys) Keys() (*seal.Keys, error) {
	if k := l.keys.Load(); k != nil {
		return k, nil
	}
	return nil, errors.New("locked")
}

// TestLocked: without the key there is no service, and with it there is, without
// a restart.
func TestLocked(t *testing.T) {
	keys := &lockedKeys{}
	w := newWire(t, startGateway(t, func(c *Config) { c.Keys = keys }))
	if a := w.do(call{method: "PUT", path: "/bucket"}); a.status != 503 {
		t.Errorf("locked: %d", a.status)
	}
	keys.keys.Store(seal.NewKey().Keys(seal.NewStoreID()))
	w.must(call{method: "PUT", path: "/bucket"}, 200)
}

// TestUpstreamDown: 503, so that clients try again; a write whose fate is unknown
// is looked up once the storage is back.
func TestUpstreamDown(t *testing.T) {
	g, l := startLying(t)
	w := newWire(t, g)
	w.must(call{method: "PUT", path: "/bucket"}, 200)
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("old")}, 200)
	down := func(string, string) error { return upstream.ErrUnavailable }
	for _, taken := range []bool{false, true} {
		if taken {
			l.after = func(op, _ string) error { // it took the write, and the answer was lost
				if op == "put" {
					l.fail = down
					return upstream.ErrUnavailable
				}
				return nil
			}
		} else {
			l.fail = down
		}
		if a := w.do(call{method: "PUT", path: "/bucket/key", body: []byte("new")}); a.status != 503 || a.code() != "SlowDown" {
			t.Errorf("taken %t: %d %s", taken, a.status, a.code())
		}
		if a := w.do(call{method: "GET", path: "/bucket/key"}); a.status != 503 {
			t.Errorf("taken %t: a GET while it is down: %d", taken, a.status)
		}
		l.fail, l.after = nil, nil
		want := map[bool]string{false: "old", true: "new"}[taken]
		list := w.must(call{method: "GET", path: "/bucket", query: "list-type=2"}, 200)
		if a := w.get("/bucket/key"); string(a.body) != want || !bytes.Contains(list.body, fmt.Appendf(nil, "<Size>%d</Size>", len(want))) {
			t.Errorf("taken %t: %q, listed\n%s", taken, a.body, list.body)
		}
	}
}

// TestQuietLog: names and secrets are in no line of the log at info level, whatever
// the requests, and not in the error of a damaged answer's code either.
func TestQuietLog(t *testing.T) {
	core, lines := observer.New(zapcore.InfoLevel)
	w := newWire(t, startGateway(t, func(c *Config) { c.Log = zap.New(core) }))
	w.must(call{method: "PUT", path: "/canarybucket"}, 200)
	w.must(call{method: "PUT", path: "/canarybucket/canarykey", body: []byte("canarybody"), header: header("X-Amz-Meta-Canary", "canarymeta")}, 200)
	w.must(call{method: "GET", path: "/canarybucket/canarykey"}, 200)
	w.do(call{method: "GET", path: "/canarybucket/canarykey2"})
	w.must(call{method: "GET", path: "/canarybucket", query: "prefix=canary"}, 200)
	if lines.Len() < 5 {
		t.Fatalf("only %d lines", lines.Len())
	}
	for _, line := range lines.All() {
		text := fmt.Sprintf("%s %v", line.Message, line.ContextMap())
		if strings.Contains(text, "canary") || strings.Contains(text, testSecret) {
			t.Errorf("the log says %s", text)
		}
	}
}

// TestNothingUpstream: neither names nor contents nor attributes are readable in
// the storage.
func TestNothingUpstream(t *testing.T) {
	g, l := startLying(t)
	w := newWire(t, g)
	w.must(call{method: "PUT", path: "/canary-bucket"}, 200)
	w.must(call{method: "PUT", path: "/canary-bucket/canary/key", body: bytes.Repeat([]byte("canary"), 300000), header: header("X-Amz-Meta-Canary", "canary", "X-Amz-Tagging", "canary=canary")}, 200)
	sum := md5.Sum(bytes.Repeat([]byte("canary"), 300000))
	for name, o := range l.objects {
		text := name + string(o.data) + fmt.Sprint(o.meta)
		for _, secret := range []string{"canary", string(sum[:]), hex.EncodeToString(sum[:])} {
			if strings.Contains(text, secret) {
				t.Errorf("%q lies upstream in the clear at %q", secret, name)
			}
		}
	}
}

// post sends a browser's upload form with a policy that lets it upload below up/.
func (w *wire) post(bucket string, change map[string]string, file string) answered {
	date := time.Now().UTC().Format(amzDateLayout)
	credential := testAccess + "/" + date[:8] + "/us-east-1/s3/aws4_request"
	policy := fmt.Sprintf(`{"expiration":%q,"conditions":[{"bucket":%q},["starts-with","$key","up/"],["content-length-range",1,100],
		{"x-amz-algorithm":"AWS4-HMAC-SHA256"},{"x-amz-credential":%q},{"x-amz-date":%q},["starts-with","$success_action_status",""]]}`,
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339), bucket, credential, date)
	encoded := base64.StdEncoding.EncodeToString([]byte(policy))
	fields := map[string]string{
		"key": "up/${filename}", "policy": encoded, "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": credential, "x-amz-date": date,
		"x-amz-signature": hex.EncodeToString(mac(w.key(date), encoded)), "success_action_status": "201",
	}
	for k, v := range change {
		fields[k] = v
	}
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for k, v := range fields {
		_ = form.WriteField(k, v)
	}
	part, _ := form.CreateFormFile("file", "name.txt")
	_, _ = io.WriteString(part, file)
	_ = form.Close()
	r, err := http.NewRequest("POST", w.g.url+"/"+bucket, &b)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	return w.send(r)
}

// TestPostForm: a browser's upload within a policy, and outside of it.
func TestPostForm(t *testing.T) {
	w := newBucket(t)
	if a := w.post("bucket", nil, "content"); a.status != 201 || !bytes.Contains(a.body, []byte("<Key>up/name.txt</Key>")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.get("/bucket/up/name.txt"); string(a.body) != "content" {
		t.Errorf("got %q", a.body)
	}
	for name, tt := range map[string]struct {
		change map[string]string
		file   string
		code   string
	}{
		"key":       {map[string]string{"key": "down/x"}, "x", "AccessDenied"},
		"extra":     {map[string]string{"x-amz-meta-a": "1"}, "x", "AccessDenied"},
		"signature": {map[string]string{"x-amz-signature": strings.Repeat("0", 64)}, "x", "SignatureDoesNotMatch"},
		"too large": {nil, strings.Repeat("x", 101), "EntityTooLarge"},
		"too small": {nil, "", "EntityTooSmall"},
		"policy":    {map[string]string{"policy": "e30="}, "x", "SignatureDoesNotMatch"},
	} {
		if a := w.post("bucket", tt.change, tt.file); a.code() != tt.code {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.code(), tt.code)
		}
	}
}

// TestCORS: a browser is told what the bucket's rules allow.
func TestCORS(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	w.must(call{method: "PUT", path: "/bucket", query: "cors=", body: []byte(`<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example</AllowedOrigin>
		<AllowedMethod>GET</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>`)}, 200)
	ask := func(origin, method string) answered {
		r, err := http.NewRequest("OPTIONS", w.g.url+"/bucket/key", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header("Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "x-amz-date")
		return w.send(r)
	}
	if a := ask("https://a.example", "GET"); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := ask("https://evil.test", "GET"); a.status != 403 {
		t.Errorf("another origin: %d", a.status)
	}
	if a := ask("https://a.example", "PUT"); a.status != 403 {
		t.Errorf("another method: %d", a.status)
	}
	r := w.request(call{method: "GET", path: "/bucket/key", header: header("Origin", "https://a.example")})
	w.sign(r)
	if a := w.send(r); a.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("a GET: %v", a.header)
	}
}

// TestNotSupported: what is not there is said with 501 and an S3 error body.
func TestNotSupported(t *testing.T) {
	w := newBucket(t)
	for _, c := range []call{
		{method: "PUT", path: "/bucket", query: "lifecycle="}, {method: "PUT", path: "/bucket", query: "website="},
		{method: "PUT", path: "/bucket", query: "replication="}, {method: "POST", path: "/bucket/key", query: "select="},
		{method: "GET", path: "/bucket", query: "inventory="}, {method: "GET", path: "/bucket/key", query: "torrent="},
		{method: "PUT", path: "/bucket/key", header: header("X-Amz-Server-Side-Encryption", "aws:kms")},
		{method: "PUT", path: "/bucket/key", header: header("X-Amz-Server-Side-Encryption-Customer-Algorithm", "AES256")},
	} {
		if a := w.do(c); a.status != 501 || a.code() != "NotImplemented" {
			t.Errorf("%s %s?%s: %d %s", c.method, c.path, c.query, a.status, a.code())
		}
	}
	for _, q := range []string{"acl", "encryption", "publicAccessBlock", "requestPayment", "logging", "accelerate", "notification", "versioning", "ownershipControls", "location"} {
		w.must(call{method: "GET", path: "/bucket", query: q + "="}, 200)
	}
	for _, q := range []string{"policy", "cors", "tagging", "lifecycle", "website", "replication", "object-lock"} {
		w.must(call{method: "GET", path: "/bucket", query: q + "="}, 404)
	}
}

// TestDelimiters: common prefixes by any delimiter, with markers in and between
// them.
func TestDelimiters(t *testing.T) {
	w := newBucket(t)
	for _, key := range []string{"a", "b/1", "b/2", "b/c/3", "bxy", "c|1", "c|2", "d/"} {
		w.must(call{method: "PUT", path: "/bucket/" + awsEncode(key, false)}, 200)
	}
	for query, want := range map[string]string{
		"delimiter=/":                           "a bxy c|1 c|2 | b/ d/",
		"delimiter=%7C":                         "a b/1 b/2 b/c/3 bxy d/ | c|",
		"delimiter=xy":                          "a b/1 b/2 b/c/3 c|1 c|2 d/ | bxy",
		"prefix=b/&delimiter=/":                 "b/1 b/2 | b/c/",
		"prefix=b":                              "b/1 b/2 b/c/3 bxy |",
		"delimiter=/&max-keys=2":                "a | b/ ...",
		"delimiter=/&start-after=b/1":           "bxy c|1 c|2 | b/ d/",
		"delimiter=/&start-after=b/":            "bxy c|1 c|2 | d/",
		"max-keys=0":                            "|",
		"prefix=zzz":                            "|",
		"prefix=b/&delimiter=/&start-after=b/c": "| b/c/",
	} {
		a := w.must(call{method: "GET", path: "/bucket", query: "list-type=2&" + query}, 200)
		var out struct {
			Contents       []struct{ Key string }
			CommonPrefixes []struct{ Prefix string }
			KeyCount       int
			IsTruncated    bool
		}
		if err := xml.Unmarshal(a.body, &out); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range out.Contents {
			got = append(got, c.Key)
		}
		got = append(got, "|")
		for _, c := range out.CommonPrefixes {
			got = append(got, c.Prefix)
		}
		if out.IsTruncated {
			got = append(got, "...")
		}
		if strings.Join(got, " ") != want || out.KeyCount != len(out.Contents)+len(out.CommonPrefixes) {
			t.Errorf("%s: %q of %d, want %q", query, got, out.KeyCount, want)
		}
	}
}

// TestManyKeys: pages of a large bucket come fast and in order.
func TestManyKeys(t *testing.T) {
	w := newBucket(t)
	const n = 20000
	ix, err := w.g.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := ix.change()
	for i := range n {
		c.put("bucket", fmt.Sprintf("dir%02d/key%06d", i%50, i), &row{Generation: uint64(i + 1), Size: int64(i), ETag: "e"}, nil)
	}
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w.must(call{method: "GET", path: "/bucket", query: "list-type=2"}, 200)
	t.Logf("first page of %d keys: %v", n, time.Since(start))
	start = time.Now()
	if a := w.must(call{method: "GET", path: "/bucket", query: "list-type=2&delimiter=/"}, 200); bytes.Count(a.body, []byte("<CommonPrefixes>")) != 50 {
		t.Errorf("%d common prefixes, want 50", bytes.Count(a.body, []byte("<CommonPrefixes>")))
	}
	t.Logf("50 common prefixes of %d keys: %v", n, time.Since(start))
	if keys := w.listAll("list-type=2", "continuation-token", ""); len(keys) != n {
		t.Errorf("%d keys, want %d", len(keys), n)
	}
}

// TestSlowUpload: a client that stops sending does not keep others from writing
// the same key.
func TestSlowUpload(t *testing.T) {
	w := newBucket(t)
	pr, pw := io.Pipe()
	r := w.request(call{method: "PUT", path: "/bucket/key", payload: "UNSIGNED-PAYLOAD"})
	w.sign(r)
	r.Body, r.ContentLength = pr, 3<<20
	done := make(chan answered, 1)
	go func() { done <- w.send(r) }()
	data := randomBytes(1, 3<<20)
	if _, err := pw.Write(data[:2<<20]); err != nil {
		t.Fatal(err)
	}
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("quick")}, 200)
	if a := w.get("/bucket/key"); string(a.body) != "quick" {
		t.Errorf("got %d bytes", len(a.body))
	}
	if _, err := pw.Write(data[2<<20:]); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	if a := <-done; a.status != 200 {
		t.Errorf("the slow one: %d %s", a.status, a.body)
	}
	if a := w.get("/bucket/key"); !bytes.Equal(a.body, data) {
		t.Errorf("the last to finish does not count: %d bytes", len(a.body))
	}
}

// TestAbandonedUpload: a client that hangs up leaves nothing.
func TestAbandonedUpload(t *testing.T) {
	w := newBucket(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := w.request(call{method: "PUT", path: "/bucket/key", payload: "UNSIGNED-PAYLOAD"})
	w.sign(r)
	pr, pw := io.Pipe()
	r.Body, r.ContentLength = pr, 3<<20
	go func() { _, _ = pw.Write(make([]byte, 2<<20)); cancel(); pw.Close() }()
	if res, err := http.DefaultTransport.RoundTrip(r.WithContext(ctx)); err == nil {
		res.Body.Close()
		t.Errorf("status %d", res.StatusCode)
	}
	if a := w.do(call{method: "GET", path: "/bucket/key"}); a.status != 404 {
		t.Errorf("half an object: %d", a.status)
	}
	c := w.g.client()
	if _, err := c.StatObject(t.Context(), "bucket", "key", minio.StatObjectOptions{}); err == nil {
		t.Error("it is there")
	}
}

// TestStop: a request that is running when the gateway is told to stop is
// answered, and the next one is told to come back.
func TestStop(t *testing.T) {
	w := newBucket(t)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- w.g.Run(ctx) }()
	pr, pw := io.Pipe()
	r := w.request(call{method: "PUT", path: "/bucket/key", payload: "UNSIGNED-PAYLOAD"})
	w.sign(r)
	r.Body, r.ContentLength = pr, 3<<20
	done := make(chan answered, 1)
	go func() { done <- w.send(r) }()
	if _, err := pw.Write(make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); len(w.g.admit) == 0; time.Sleep(time.Millisecond) { // so far it may lie in buffers only
		if time.Since(began) > 10*time.Second {
			t.Fatal("the request does not arrive")
		}
	}
	cancel()
	if _, err := pw.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	if a := <-done; a.status != 200 {
		t.Errorf("the request under way: %d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	if a := w.do(call{method: "GET", path: "/bucket/key"}); a.status != 503 {
		t.Errorf("a later request: %d", a.status)
	}
	w.g.server.Close()
	w.g.server = nil
}
