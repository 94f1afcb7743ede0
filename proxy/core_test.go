package proxy

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// coreScript is a behaviour of S3 that stands for cases of the core of Ceph's
// s3-tests; docs/decisions/0041-gateway-conformance.md counts them. Each line is a request and what it is answered:
//
//	METHOD {b}/key?query [Header: value; Header: value] << body -> status Code & condition & condition
//
// Conditions are "has TEXT" and "no TEXT" of the body, "body TEXT" exactly, "@Header value" ("-" is none), and "name = <Element>" or
// "name = @Header", whose value {name} then stands for. {b} and {c} are buckets of the script's own, {5M} is so many bytes.
type coreScript struct {
	group  string
	cases  int // of s3-tests
	says   string
	script string
}

// runCore runs the scripts of a gateway.
func runCore(t *testing.T, w *wire, scripts []coreScript) {
	for i, s := range scripts {
		t.Run(s.group+"/"+strings.ReplaceAll(s.says, " ", "_"), func(t *testing.T) {
			own := *w
			own.t = t
			run := &coreRun{w: &own, values: map[string]string{"b": fmt.Sprintf("/core-%d-b", i), "c": fmt.Sprintf("/core-%d-c", i)}}
			for _, size := range []string{"5M", "1M", "100K"} {
				n, _ := strconv.Atoi(strings.TrimRight(size, "KM"))
				run.values[size] = strings.Repeat("0123456789abcdef", n<<(map[byte]int{'K': 10, 'M': 20}[size[len(size)-1]])/16)
			}
			run.values["128"], run.values["256"] = strings.Repeat("k", 128), strings.Repeat("v", 256)
			run.line("PUT {b} -> 200")
			for line := range strings.SplitSeq(strings.TrimSpace(s.script), "\n") {
				run.line(strings.TrimSpace(line))
			}
		})
	}
}

type coreRun struct {
	w      *wire
	values map[string]string
}

var corePlaceholder = regexp.MustCompile(`\{[a-z0-9A-Z]+\}`)

func (c *coreRun) expand(s string) string {
	return corePlaceholder.ReplaceAllStringFunc(s, func(name string) string {
		if v, ok := c.values[name[1:len(name)-1]]; ok {
			return v
		}
		return name
	})
}

var coreLine = regexp.MustCompile(`^([A-Z]+) (\S+)(?: \[(.*?)\])?(?: << (.*?))? -> (\d+)(?: (\w+))?((?: & .*)?)$`)

func (c *coreRun) line(line string) {
	c.w.t.Helper()
	m := coreLine.FindStringSubmatch(line)
	if m == nil {
		c.w.t.Fatalf("%s: not understood", line)
	}
	path, query, _ := strings.Cut(c.expand(m[2]), "?")
	request := call{method: m[1], path: path, query: query, body: []byte(c.expand(m[4])), header: make(http.Header)}
	for pair := range strings.SplitSeq(c.expand(m[3]), "; ") {
		if name, value, ok := strings.Cut(pair, ": "); ok {
			request.header.Set(name, value)
		}
	}
	a := c.w.do(request)
	if strconv.Itoa(a.status) != m[5] || m[6] != "" && a.code() != m[6] {
		c.w.t.Errorf("%s: %d %s", line, a.status, a.body[:min(500, len(a.body))])
	}
	for condition := range strings.SplitSeq(m[7], " & ") {
		if condition != "" && !c.holds(a, strings.TrimSpace(condition)) {
			c.w.t.Errorf("%s: not %q: %v %s", line, condition, a.header, a.body[:min(2000, len(a.body))])
		}
	}
}

func (c *coreRun) holds(a answered, condition string) bool {
	if name, from, ok := strings.Cut(condition, " = "); ok {
		value := a.header.Get(strings.TrimPrefix(from, "@"))
		if from[0] == '<' {
			_, rest, _ := strings.Cut(string(a.body), from)
			value, _, _ = strings.Cut(rest, "<")
		}
		c.values[name] = value
		return value != ""
	}
	what, text, _ := strings.Cut(c.expand(condition), " ")
	switch {
	case what == "has":
		return bytes.Contains(a.body, []byte(text))
	case what == "no":
		return !bytes.Contains(a.body, []byte(text))
	case what == "body":
		return string(a.body) == text
	case text == "-":
		return len(a.header.Values(what[1:])) == 0
	}
	return a.header.Get(what[1:]) == text
}

// coreList is one question to both kinds of ListObjects; "after" stands for
// marker or start-after. Of keys and want each is divided by "|"; want are keys,
// prefixes with "/" before them, and "..." if there is more.
type coreList struct {
	cases             int
	keys, query, want string
}

var coreLists = []coreList{
	{2, "foo|bar|baz", "max-keys=2", "bar|baz|..."},
	{0, "foo|bar|baz", "after=baz&max-keys=2", "foo"},
	{2, "", "", ""},
	{2, "foo/bar|foo/bar/xyzzy|quux/thud|asdf", "delimiter=/", "asdf|/foo/|/quux/"},
	{2, "foo+1/bar|foo/bar/xyzzy|quux ab/thud|asdf+b", "delimiter=/&encoding-type=url", "asdf%2Bb|/foo%2B1/|/foo/|/quux%20ab/"},
	{0, "asdf|boo/bar|boo/baz/xyzzy|cquux/thud|cquux/bla", "delimiter=/&prefix=&max-keys=1", "asdf|..."},
	{0, "asdf|boo/bar|boo/baz/xyzzy|cquux/thud|cquux/bla", "delimiter=/&max-keys=1&after=asdf", "/boo/|..."},
	{2, "asdf|boo/bar|boo/baz/xyzzy|cquux/thud|cquux/bla", "delimiter=/&max-keys=1&after=boo/", "/cquux/"},
	{0, "asdf|boo/bar|boo/baz/xyzzy|cquux/thud|cquux/bla", "delimiter=/&max-keys=2", "asdf|/boo/|..."},
	{0, "asdf|boo/bar|boo/baz/xyzzy|cquux/thud|cquux/bla", "delimiter=/&prefix=boo/&max-keys=1", "boo/bar|..."},
	{0, "asdf|boo/bar|boo/baz/xyzzy|cquux/thud|cquux/bla", "delimiter=/&prefix=boo/&max-keys=2", "boo/bar|/boo/baz/"},
	{2, "asdf/", "delimiter=/&prefix=asdf/&max-keys=1000", "asdf/"},
	{2, "_obj1_|_under1/bar|_under1/baz/xyzzy|_under2/thud", "delimiter=/&max-keys=1&after=_obj1_", "/_under1/|..."},
	{2, "bar|baz|cab|foo", "delimiter=a", "foo|/ba|/ca"},
	{2, "b%ar|b%az|c%ab|foo", "delimiter=%25", "foo|/b%|/c%"},
	{2, "b ar|b az|c ab|foo", "delimiter=%20", "foo|/b |/c "},
	{2, "b.ar|b.az|c.ab|foo", "delimiter=.", "foo|/b.|/c."},
	{2, "bar|baz|cab|foo", "delimiter=%0A", "bar|baz|cab|foo"},
	{2, "bar|baz|cab|foo", "delimiter=", "bar|baz|cab|foo"},
	{4, "bar|baz|cab|foo", "", "bar|baz|cab|foo"},
	{2, "bar|baz|cab|foo", "delimiter=/", "bar|baz|cab|foo"},
	{1, "0/|0/1000|0/1001|0/1999|1999|1999#|1999+|2000", "delimiter=/", "1999|1999#|1999+|2000|/0/"},
	{3, "foo/bar|foo/baz|quux", "prefix=foo/", "foo/bar|foo/baz"},
	{2, "bar|baz|foo", "prefix=ba", "bar|baz"},
	{4, "foo/bar|foo/baz|quux", "prefix=", "foo/bar|foo/baz|quux"},
	{2, "foo/bar|foo/baz|quux", "prefix=d", ""},
	{2, "foo/bar|foo/baz|quux", "prefix=%0A", ""},
	{2, "foo/bar|foo/baz/xyzzy|quux/thud|asdf", "delimiter=/&prefix=foo/", "foo/bar|/foo/baz/"},
	{2, "bar|bazar|cab|foo", "delimiter=a&prefix=ba", "bar|/baza"},
	{2, "b/a/r|b/a/c|b/a/g|g", "delimiter=d&prefix=/", ""},
	{2, "b/a/r|b/a/c|b/a/g|g", "delimiter=z&prefix=b", "b/a/c|b/a/g|b/a/r"},
	{2, "b/a/r|b/a/c|b/a/g|g", "delimiter=z&prefix=y", ""},
	{2, "bar|baz|foo|quxx", "max-keys=1", "bar|..."},
	{2, "bar|baz|foo|quxx", "max-keys=0", ""},
	{2, "bar|baz|foo|quxx", "after=%0A", "bar|baz|foo|quxx"},
	{2, "bar|baz|foo|quxx", "after=blah", "foo|quxx"},
	{2, "bar|baz|foo|quxx", "after=zzz", ""},
	{1, "bar|baz|foo|quxx", "after=", "bar|baz|foo|quxx"},
}

// check asks and compares.
func (l coreList) check(w *wire, bucket string) {
	for kind, query := range map[string]string{"": strings.ReplaceAll(l.query, "after=", "marker="), "list-type=2": strings.ReplaceAll(l.query, "after=", "start-after=")} {
		a := w.must(call{method: "GET", path: bucket, query: strings.Trim(kind+"&"+query, "&")}, 200)
		var out struct {
			IsTruncated    bool
			KeyCount       *int
			MaxKeys        int
			Delimiter      *string
			Prefix         *string
			Contents       []struct{ Key, Size, ETag string }
			CommonPrefixes []struct{ Prefix string }
		}
		if err := xml.Unmarshal(a.body, &out); err != nil {
			w.t.Fatal(err)
		}
		var got []string
		for _, o := range out.Contents {
			got = append(got, o.Key)
		}
		for _, p := range out.CommonPrefixes {
			got = append(got, "/"+p.Prefix)
		}
		if kind != "" && (out.KeyCount == nil || *out.KeyCount != len(got)) {
			w.t.Errorf("%s: KeyCount in %s", query, a.body)
		}
		if out.IsTruncated {
			got = append(got, "...")
		}
		if strings.Join(got, "|") != l.want {
			w.t.Errorf("%s of %q: got %q, want %q", query, l.keys, got, l.want)
		}
		asked, err := url.ParseQuery(query)
		if err != nil {
			w.t.Fatal(err)
		}
		if (out.Delimiter != nil) != (asked.Get("delimiter") != "") || asked.Has("prefix") && (out.Prefix == nil || *out.Prefix != asked.Get("prefix")) ||
			!asked.Has("max-keys") && out.MaxKeys != 1000 {
			w.t.Errorf("%s: what was asked for: %s", query, a.body)
		}
	}
}

// TestCore: what Ceph's s3-tests expect of S3 beyond ACLs, policies, lifecycles,
// keys of others and signatures of old, over a folder; the scripts on objects over MinIO as well.
func TestCore(t *testing.T) {
	w := newWire(t, startGateway(t))
	made := make(map[string]string)
	for i, l := range coreLists {
		bucket := made[l.keys]
		if bucket == "" {
			bucket = fmt.Sprintf("/list-%d", i)
			made[l.keys] = bucket
			w.must(call{method: "PUT", path: bucket}, 200)
			for _, key := range strings.Split(l.keys, "|") {
				if key != "" {
					w.must(call{method: "PUT", path: bucket + "/" + awsEncode(key, false), body: []byte(key)}, 200)
				}
			}
		}
		l.check(w, bucket)
	}
	runCore(t, w, coreScripts)
	cases := 0
	for _, l := range coreLists {
		cases += l.cases
	}
	for _, s := range coreScripts {
		cases += s.cases
	}
	if cases != coreCases {
		t.Errorf("these are %d cases, docs/decisions/0041-gateway-conformance.md says %d", cases, coreCases)
	}
}

func TestCoreOverMinIO(t *testing.T) {
	s := testminio.StartServer(t)
	b, err := upstream.Open(t.Context(), upstream.Config{
		Type: "s3", Endpoint: s.Endpoint, Bucket: "core", Create: true, AccessKey: s.Access, SecretKey: upstream.NewSecret(s.Secret),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, startGateway(t, func(c *Config) { c.Bucket = b }))
	runCore(t, w, slices.DeleteFunc(slices.Clone(coreScripts), func(s coreScript) bool {
		return !slices.Contains([]string{"multipart", "copy", "versions", "object"}, s.group)
	}))
}

// TestCoreOverwrite: who reads an object while it is replaced, or writes one
// beside another, sees one whole or the other.
func TestCoreOverwrite(t *testing.T) {
	w := newBucket(t)
	for _, size := range []int{1 << 20, 4 << 20, 8 << 20} {
		old, young := bytes.Repeat([]byte("A"), size), bytes.Repeat([]byte("B"), size)
		w.must(call{method: "PUT", path: "/bucket/key", body: old}, 200)
		r := w.request(call{method: "GET", path: "/bucket/key"})
		w.sign(r)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		begun := make([]byte, 100)
		if _, err := io.ReadFull(res.Body, begun); err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		put := w.request(call{method: "PUT", path: "/bucket/key", payload: "UNSIGNED-PAYLOAD"})
		w.sign(put)
		put.Body, put.ContentLength = io.NopCloser(readerFunc(gated(young, gate))), int64(size)
		done := make(chan answered, 1)
		go func() { done <- w.send(put) }()
		if got := w.get("/bucket/key").body; !bytes.Equal(got, old) { // while the other is on its way
			t.Errorf("%d bytes: a half is visible", size)
		}
		w.must(call{method: "PUT", path: "/bucket/key", body: bytes.Repeat([]byte("C"), size)}, 200)
		close(gate)
		if a := <-done; a.status != 200 {
			t.Fatalf("%d bytes: %d %s", size, a.status, a.body)
		}
		if got := w.get("/bucket/key").body; !bytes.Equal(got, young) {
			t.Errorf("%d bytes: the last to end is not what is there", size)
		}
		rest, err := io.ReadAll(res.Body)
		res.Body.Close()
		if got := append(begun, rest...); err == nil && !bytes.Equal(got, old) {
			t.Errorf("%d bytes: a GET mixed two objects", size)
		}
	}
}

// TestCoreRemoval: whoever removes the same versions at the same time as others is
// told that they are gone.
func TestCoreRemoval(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket", query: "versioning=", body: []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")}, 200)
	list := "<Delete>"
	for i := range 15 {
		key := fmt.Sprintf("key%d", i%5)
		a := w.must(call{method: "PUT", path: "/bucket/" + key, body: []byte(key)}, 200)
		list += "<Object><Key>" + key + "</Key><VersionId>" + a.header.Get("X-Amz-Version-Id") + "</VersionId></Object>"
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			a := w.do(call{method: "POST", path: "/bucket", query: "delete=", body: []byte(list + "</Delete>")})
			if a.status != 200 || bytes.Count(a.body, []byte("<Deleted>")) != 15 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if a := w.do(call{method: "GET", path: "/bucket", query: "versions="}); bytes.Contains(a.body, []byte("<VersionId>")) {
		t.Errorf("left: %s", a.body)
	}
}

// gated gives all but the last byte of data, and that once gate is closed.
func gated(data []byte, gate <-chan struct{}) func([]byte) (int, error) {
	at := 0
	return func(b []byte) (int, error) {
		if at == len(data) {
			return 0, io.EOF
		}
		if at == len(data)-1 {
			<-gate
		}
		n := copy(b, data[at:max(at+1, len(data)-1)])
		at += n
		return n, nil
	}
}

// TestCoreVersionsAtOnce: what is written and removed at the same time is there once
// each, and then gone.
func TestCoreVersionsAtOnce(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket", query: "versioning=", body: []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")}, 200)
	for range 3 {
		var group sync.WaitGroup
		for i := range 5 {
			group.Go(func() { w.must(call{method: "PUT", path: "/bucket/key", body: fmt.Append(nil, i)}, 200) })
		}
		group.Wait()
		var list struct{ Version []struct{ VersionId string } }
		if err := xml.Unmarshal(w.must(call{method: "GET", path: "/bucket", query: "versions="}, 200).body, &list); err != nil || len(list.Version) != 5 {
			t.Fatalf("%d versions of 5 writes, %v", len(list.Version), err)
		}
		for _, v := range list.Version {
			group.Go(func() { w.must(call{method: "DELETE", path: "/bucket/key", query: "versionId=" + v.VersionId}, 204) })
		}
		group.Wait()
		if a := w.must(call{method: "GET", path: "/bucket", query: "versions="}, 200); bytes.Contains(a.body, []byte("<Version>")) {
			t.Errorf("after all: %s", a.body)
		}
	}
}

// TestCoreHeaders: headers that are odd, or are not there.
func TestCoreHeaders(t *testing.T) {
	w := newBucket(t)
	now := time.Now().UTC()
	for name, tt := range map[string]struct {
		bend   func(*http.Request)
		status int
		code   string
	}{
		"an empty Expect":         {func(r *http.Request) { r.Header["Expect"] = []string{""} }, 200, ""},
		"no content type":         {func(r *http.Request) { r.Header.Del("Content-Type") }, 200, ""},
		"an empty content type":   {func(r *http.Request) { r.Header["Content-Type"] = []string{""} }, 200, ""},
		"no authorization":        {func(r *http.Request) { r.Header.Del("Authorization") }, 403, "AccessDenied"},
		"an empty authorization":  {func(r *http.Request) { r.Header["Authorization"] = []string{""} }, 403, "AccessDenied"},
		"a torn authorization":    {func(r *http.Request) { r.Header.Set("Authorization", r.Header.Get("Authorization")[:80]+"x") }, 400, ""},
		"Date beside X-Amz-Date":  {func(r *http.Request) { r.Header.Set("Date", now.Format(http.TimeFormat)) }, 200, ""},
		"no user agent":           {func(r *http.Request) { r.Header["User-Agent"] = nil }, 200, ""},
		"a date of long ago":      {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20100707T215304Z") }, 400, ""},
		"a date that is none":     {func(r *http.Request) { r.Header.Set("X-Amz-Date", "Bad Date") }, 403, "AccessDenied"},
		"an MD5 that is too long": {func(r *http.Request) { r.Header.Set("Content-Md5", "YWJyYWNhZGFicmE=") }, 400, "InvalidDigest"},
		"an empty MD5":            {func(r *http.Request) { r.Header["Content-Md5"] = []string{""} }, 400, "InvalidDigest"},
		"another's MD5":           {func(r *http.Request) { r.Header.Set("Content-Md5", "rL0Y20xC+Fzt72VPzMSk2A==") }, 400, "BadDigest"},
	} {
		r := w.request(call{method: "PUT", path: "/bucket/foo", body: []byte("bar")})
		w.sign(r)
		tt.bend(r)
		if a := w.send(r); a.status != tt.status || tt.code != "" && a.code() != tt.code {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for path, statuses := range map[string]map[string]int{
		"/bucket/foo": {
			"": 411, "Content-Length: \r\n": 400, "Content-Length: -1\r\n": 400, "X-Amz-Meta-Meta1: h\x04w\r\n": 400, "Content-Length: 0\r\nX-Other: Hello \xe9\r\n": 200,
			"Content-Length: 0\r\nExpect: 200\r\n": 417, // S3 passes over it; Go's server does not
		},
		"/new-bucket": {"": 200, "Content-Length: \r\n": 400, "Content-Length: -1\r\n": 400},
	} {
		for lines, status := range statuses {
			if got := w.raw("PUT", path, lines); got != status {
				t.Errorf("PUT %s with %q: %d, want %d", path, lines, got, status)
			}
		}
	}
}

// raw signs a request without a body and sends it with these lines added, which no
// client would.
func (w *wire) raw(method, path, lines string) int {
	w.t.Helper()
	r := w.request(call{method: method, path: path})
	w.sign(r)
	c, err := net.Dial("tcp", w.g.addr())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s", method, path, r.URL.Host, lines)
	for name := range r.Header {
		fmt.Fprintf(c, "%s: %s\r\n", name, r.Header.Get(name))
	}
	io.WriteString(c, "\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		w.t.Fatalf("%s with %q: %v", path, lines, err)
	}
	defer res.Body.Close()
	return res.StatusCode
}
