package proxy

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestForgedV2: a signature of the old kind over a value that somebody else chose,
// a file name for example, is good for no other request.
func TestForgedV2(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket/secret", body: []byte("secret")}, 200)
	w.must(call{method: "PUT", path: "/bucket/open", body: []byte("open")}, 200)
	soon := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	const late = "1999999999"
	sign := func(text string) string {
		m := hmac.New(sha1.New, []byte(testSecret))
		io.WriteString(m, text)
		return base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	get := func(path, expires, signature string, q url.Values) answered {
		q.Set("AWSAccessKeyId", testAccess)
		q.Set("Expires", expires)
		q.Set("Signature", signature)
		return w.unsigned("GET", path+"?"+q.Encode(), "")
	}
	const before, after = `attachment; filename="x`, `response-content-type=text/"`
	disposition := before + "\n" + late + "\n/bucket/secret?" + after
	signature := sign("GET\n\n\n" + soon + "\n/bucket/open?response-content-disposition=" + disposition)
	forged := url.Values{"Content-Type": {"\n" + soon + "\n/bucket/open?response-content-disposition=" + before}, "response-content-type": {`text/"`}}
	if a := get("/bucket/secret", late, signature, forged); a.code() != "SignatureDoesNotMatch" {
		t.Errorf("forged: %d %s", a.status, a.body)
	}
	for name, values := range map[string]url.Values{
		"/bucket/open?response-content-disposition=a\nb": {"response-content-disposition": {"a\nb"}},
		"x-amz-meta-a:b\nc\n/bucket/open":                {"X-Amz-Meta-A": {"b\nc"}},
		"x-amz-a\rb:c\n/bucket/open":                     {"X-Amz-A\rb": {"c"}},
	} {
		if a := get("/bucket/open", soon, sign("GET\n\n\n"+soon+"\n"+name), values); a.code() != "SignatureDoesNotMatch" {
			t.Errorf("%q: %d %s", name, a.status, a.body)
		}
	}
	name := `attachment; filename="é & b.txt"`
	if a := get("/bucket/open", soon, sign("GET\n\n\n"+soon+"\n/bucket/open?response-content-disposition="+name), url.Values{"response-content-disposition": {name}}); string(a.body) != "open" {
		t.Errorf("a name without control bytes: %d %s", a.status, a.body)
	}
}

// TestQueryIsWhole: a query is signed as it is read: no part of it is left out.
func TestQueryIsWhole(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket/other", body: []byte("x")}, 200)
	u, err := w.g.client().Presign(t.Context(), "GET", "bucket", "", time.Hour, url.Values{"prefix": {"100%/"}})
	if err != nil {
		t.Fatal(err)
	}
	get := func(old, with string) answered {
		query := strings.Replace(u.RawQuery, old, with, 1)
		if query == u.RawQuery && old != with {
			t.Fatalf("%q is not in %q", old, query)
		}
		return w.unsigned("GET", "/bucket/?"+query, "")
	}
	if a := get("", ""); a.status != 200 || strings.Contains(string(a.body), "other") {
		t.Errorf("as it was signed: %d %s", a.status, a.body)
	}
	for _, bent := range []string{"prefix=100%/", "prefix=100%25;%2F", "prefix=100%25%2F&%zz"} {
		if a := get("prefix=100%25%2F", bent); a.status != 400 || a.code() != "InvalidURI" {
			t.Errorf("%s: %d %s", bent, a.status, a.body)
		}
	}
	r := w.request(call{method: "GET", path: "/bucket", query: "prefix=a;b"})
	w.sign(r)
	if a := w.send(r); a.code() != "InvalidURI" {
		t.Errorf("a signed header and a semicolon: %d %s", a.status, a.body)
	}
}
