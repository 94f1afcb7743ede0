package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

// TestBucketPolicyIsRefused: what is not whole, or could not be enforced, is no policy.
func TestBucketPolicyIsRefused(t *testing.T) {
	const ours, objects = `"arn:aws:s3:::bucket"`, `"arn:aws:s3:::bucket/*"`
	statement := func(effect, principal, action, resource, more string) string {
		return fmt.Sprintf(`{"Statement":[{"Effect":%s,"Principal":%s,"Action":%s,"Resource":%s%s}]}`, effect, principal, action, resource, more)
	}
	with := func(condition string) string {
		return statement(`"Deny"`, `"*"`, `"s3:GetObject"`, objects, `,"Condition":`+condition)
	}
	for document, want := range map[string]string{
		``:                                       "first byte",
		`[]`:                                     "first byte",
		`{"Statement":`:                          "invalid Json",
		`{"Statement":7}`:                        "invalid Json",
		`{"Id":"1","Id":"2","Statement":[]}`:     "invalid Json",
		`{}`:                                     "Missing required field Statement",
		`{"statement":[]}`:                       "Unsupported field statement",
		`{"Statement":[]}`:                       "Statement is empty",
		`{"Version":"2012-10-18","Statement":1}`: "valid version",
		statement(`"allow"`, `"*"`, `"s3:*"`, ours, ""):                                        "Invalid effect",
		statement(`"Allow"`, `"known"`, `"s3:*"`, ours, `,"Effect":"Deny"`):                    "invalid Json",
		statement(`"Allow"`, `""`, `"s3:*"`, ours, ""):                                         "Invalid principal",
		statement(`"Allow"`, `["*","known"]`, `"s3:*"`, ours, ""):                              "Invalid principal",
		statement(`"Allow"`, `"unknown"`, `"s3:*"`, ours, ""):                                  "Invalid principal",
		statement(`"Allow"`, `{"Service":"x"}`, `"s3:*"`, ours, ""):                            "Invalid principal",
		statement(`"Allow"`, `"known"`, `"s3:Nothing"`, ours, ""):                              "invalid action",
		statement(`"Allow"`, `"known"`, `[]`, ours, ""):                                        "invalid action",
		statement(`"Allow"`, `"known"`, `"s3:*"`, `"arn:aws:s3:::buckets/*"`, ""):              "invalid resource",
		statement(`"Allow"`, `"known"`, `"s3:*"`, `"arn:aws:s3:::other"`, ""):                  "invalid resource",
		statement(`"Allow"`, `"known"`, `"s3:*"`, `"arn:aws:s3:::bucket/${aws:user}"`, ""):     "invalid resource",
		statement(`"Allow"`, `"known"`, `"s3:GetObject"`, ours, ""):                            "does not apply",
		statement(`"Allow"`, `"known"`, `"s3:ListBucket"`, objects, ""):                        "does not apply",
		statement(`"Deny"`, `"known"`, `"s3:*"`, ours, `,"NotAction":"s3:GetObject"`):          "Unsupported field NotAction",
		with(`{"Unheard":{"aws:SourceIp":"::1"}}`):                                             "Invalid Condition type : Unheard",
		with(`{"StringEquals":{"aws:Unheard":"x"}}`):                                           "invalid condition key",
		with(`{"StringEquals":{"s3:prefix":"x"}}`):                                             "do not apply",
		with(`{"IpAddress":{"aws:SourceIp":"home"}}`):                                          "Invalid IP",
		with(`{"IpAddress":{"aws:SourceIp":"fe80::1%eth0"}}`):                                  "Invalid IP",
		with(`{"IpAddress":{"aws:SourceIp":"::ffff:10.0.0.0/90"}}`):                            "Invalid IP",
		with(`{"IpAddress":{"aws:SourceIp":["::ffff:10.0.0.0/104","::ffff:10.0.0.5","::1"]}}`): "",
		with(`{"NotIpAddress":{"aws:Referer":"10.0.0.0/8"}}`):                                  "invalid condition key",
		with(`{"StringNotEquals":{"aws:SourceIp":"10.0.0.0/8"}}`):                              "Invalid IP",
		with(`{"StringNotEquals":{"aws:SourceIp":"::ffff:10.0.0.5"}}`):                         "Invalid IP",
		with(`{"StringLike":{"aws:SourceIp":"10.0.0.5"}}`):                                     "",
		with(`null`):             "is empty",
		with(`{}`):               "is empty",
		with(`{"IpAddress":{}}`): "is empty",
		with(`{"NumericEquals":{"aws:UserAgent":"1"}}`):                                      "not implemented",
		with(`{"StringEqualsIfExists":{"aws:UserAgent":"1"}}`):                               "not implemented",
		with(`{"ForAnyValue:StringEquals":{"aws:UserAgent":"1"}}`):                           "not implemented",
		with(`{"StringLike":{"aws:UserAgent":"${x}"}}`):                                      "not implemented",
		with(`{"StringLike":{"aws:UserAgent":[]}}`):                                          "invalid Json",
		`{"Version":"2012-10-17","Id":"1","Statement":` + statementOf("Deny", "known") + `}`: "",
	} {
		_, err := parseBucketPolicy([]byte(document), "bucket", func(id string) bool { return id == "known" })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", document, err, want)
		}
	}
}

// statementOf is one statement about every object of the bucket.
func statementOf(effect, who string) string {
	return fmt.Sprintf(`{"Sid":"1","Effect":%q,"Principal":{"AWS":%q},"Action":["s3:*Object"],"Resource":"arn:aws:s3:::bucket/*"}`, effect, who)
}

// TestBucketPolicyDecides: of the statements that cover a request one that denies
// counts for more than any that allow.
func TestBucketPolicyDecides(t *testing.T) {
	const document = `{"Statement":[
		{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/pub*"},
		{"Effect":"Allow","Principal":["one","two"],"Action":["s3:Get*","s3:PutObject"],"Resource":"arn:aws:s3:::bucket/?/*"},
		{"Effect":"Deny","Principal":{"AWS":"two"},"Action":"s3:*","Resource":"arn:aws:s3:::bucket/a/*.key"},
		{"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::bucket",
			"Condition":{"StringLike":{"s3:prefix":["home/*","x"]},"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1","::ffff:12.0.0.5","::ffff:13.0.0.0/104"]}}},
		{"Effect":"Deny","Principal":"*","Action":"s3:Delete*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"],
			"Condition":{"Bool":{"aws:SecureTransport":"false"}}},
		{"Effect":"Deny","Principal":"*","Action":"s3:PutObjectAcl","Resource":"arn:aws:s3:::bucket/*","Condition":{"StringNotEquals":{"s3:x-amz-acl":"private"}}}]}`
	p, err := parseBucketPolicy([]byte(document), "bucket", nil)
	if err != nil {
		t.Fatal(err)
	}
	home := map[string]string{"s3:prefix": "home/x", "aws:sourceip": "10.1.2.3", "aws:securetransport": "true"}
	for _, tt := range []struct {
		who, action, resource string
		facts                 map[string]string
		allowed, denied       bool
	}{
		{"", "s3:GetObject", "bucket/public/x", nil, true, false},
		{"", "s3:GetObject", "bucket/private", nil, false, false},
		{"", "s3:GetObjectTagging", "bucket/public", nil, false, false},
		{"", "s3:GetObject", "bucket/a/x", nil, false, false},
		{"one", "s3:GetObjectTagging", "bucket/a/x", nil, true, false},
		{"one", "s3:GetObject", "bucket/ab/x", nil, false, false},
		{"three", "s3:PutObject", "bucket/a/x", nil, false, false},
		{"one", "s3:GetObject", "bucket/a/the.key", nil, true, false},
		{"two", "s3:GetObject", "bucket/a/the.key", nil, true, true},
		{"", "s3:ListBucket", "bucket", home, true, false},
		{"", "s3:ListBucket", "bucket", map[string]string{"s3:prefix": "home/x"}, false, false},
		{"", "s3:ListBucket", "bucket", map[string]string{"aws:sourceip": "10.1.2.3"}, false, false},
		{"", "s3:ListBucket", "bucket", map[string]string{"s3:prefix": "x", "aws:sourceip": "11.1.2.3"}, false, false},
		{"", "s3:ListBucket", "bucket", map[string]string{"s3:prefix": "x", "aws:sourceip": "12.0.0.5"}, true, false},
		{"", "s3:ListBucket", "bucket", map[string]string{"s3:prefix": "x", "aws:sourceip": "12.0.0.6"}, false, false},
		{"", "s3:ListBucket", "bucket", map[string]string{"s3:prefix": "x", "aws:sourceip": "13.1.2.3"}, true, false},
		{"one", "s3:DeleteObject", "bucket/a/x", home, false, false},
		{"one", "s3:DeleteObject", "bucket/a/x", map[string]string{"aws:securetransport": "false"}, false, true},
		{"one", "s3:PutObjectAcl", "bucket/a/x", nil, false, true},
		{"one", "s3:PutObjectAcl", "bucket/a/x", map[string]string{"s3:x-amz-acl": "private"}, false, false},
	} {
		allowed, denied := p.decide(policyQuestion{tt.who, tt.action, tt.resource, tt.facts})
		if allowed != tt.allowed || denied != tt.denied {
			t.Errorf("%q %s %s %v: allowed %v, denied %v", tt.who, tt.action, tt.resource, tt.facts, allowed, denied)
		}
	}
}

func FuzzBucketPolicy(f *testing.F) {
	f.Add(`{"Statement":[`+statementOf("Allow", "*")+`]}`, "bucket/a")
	f.Add(`{"Statement":`+statementOf("Deny", "me")[:100], "bucket")
	f.Add(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:?*?t","Resource":"arn:aws:s3:::bucket*a*b","Condition":{"StringLike":{"aws:Referer":"*"}}}]}`, "bucketxaxb")
	f.Fuzz(func(t *testing.T, document, resource string) {
		p, err := parseBucketPolicy([]byte(document), "bucket", nil)
		if err != nil {
			return
		}
		q := policyQuestion{action: "s3:GetObject", resource: resource, facts: map[string]string{"aws:referer": document}}
		if allowed, _ := p.decide(q); allowed && (!p.isPublic() || !strings.HasPrefix(resource, "bucket")) {
			t.Errorf("%s allows anybody %q, public is %v", document, resource, p.isPublic())
		}
	})
}

// policyOf is a statement on everything in the bucket, and the bucket.
func policyOf(effect, who, action string) string {
	return fmt.Sprintf(`{"Statement":[{"Effect":%q,"Principal":%q,"Action":%q,"Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}]}`, effect, who, action)
}

func (w *wire) policy(document string, status int) {
	w.t.Helper()
	w.must(call{method: "PUT", path: "/bucket", query: "policy=", body: []byte(document)}, status)
}

// TestPolicyBinds: a policy takes from access keys and gives them nothing beyond
// their rights; it survives the loss of the index.
func TestPolicyBinds(t *testing.T) {
	w := newBucket(t, func(c *Config) {
		c.Access = append(c.Access, AccessKey{ID: "reader", Secret: NewSecret(testSecret), Rights: "read", Buckets: []string{"bucket"}},
			AccessKey{ID: "writer", Secret: NewSecret(testSecret), Buckets: []string{"bucket", "other"}})
	})
	w.must(call{method: "PUT", path: "/other"}, 200)
	as := func(id string) *wire { other := *w; other.access = id; return &other }
	reader, writer := as("reader"), as("writer")
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	object := call{method: "GET", path: "/bucket/key"}
	write := call{method: "PUT", path: "/bucket/key2", header: header("X-Amz-Tagging", "a=b")}
	copied := call{method: "PUT", path: "/other/key", header: header("X-Amz-Copy-Source", "bucket/key")}
	remove := call{method: "POST", path: "/bucket", query: "delete=", body: []byte("<Delete><Object><Key>key</Key></Object></Delete>")}
	manage := call{method: "DELETE", path: "/bucket", query: "policy="}

	w.policy(policyOf("Allow", "reader", "s3:PutObject"), 204)
	reader.must(object, 200)
	reader.must(write, 403) // its rights are those of the configuration
	w.policy(policyOf("Deny", "reader", "s3:*"), 204)
	reader.must(object, 403)
	writer.must(object, 200)
	w.policy(policyOf("Deny", "writer", "s3:GetObject"), 204)
	writer.must(object, 403)
	writer.must(call{method: "HEAD", path: "/bucket/key"}, 403)
	writer.must(copied, 403)
	writer.must(write, 200)
	w.must(copied, 200)
	w.policy(policyOf("Deny", "writer", "s3:PutObjectTagging"), 204)
	writer.must(write, 403)
	w.policy(policyOf("Deny", "writer", "s3:DeleteObject"), 204)
	if a := writer.must(remove, 200); !strings.Contains(string(a.body), "AccessDenied") {
		t.Errorf("keys removed together: %s", a.body)
	}
	w.policy(policyOf("Deny", "*", "s3:*"), 204)
	w.must(object, 403)
	w.loseIndex()
	w.must(object, 403)
	writer.must(manage, 403)
	if a := w.must(call{method: "GET", path: "/bucket", query: "policy="}, 200); string(a.body) != policyOf("Deny", "*", "s3:*") {
		t.Errorf("the policy reads %s", a.body)
	}
	w.must(manage, 204) // who made the bucket is never locked out
	w.must(object, 200)
	access := func(rights string, buckets ...string) { // of who made the bucket
		t.Helper()
		keys := append([]AccessKey{{ID: "chief", Secret: NewSecret(testSecret), Buckets: []string{"*"}}}, w.g.config.Access...)
		keys[1].Rights, keys[1].Buckets = rights, buckets
		if err := w.g.SetAccess(keys); err != nil {
			t.Fatal(err)
		}
	}
	chief := as("chief")
	access("") // nor is everybody, if that key may not write, or not here
	w.policy(policyOf("Deny", "*", "s3:*"), 204)
	chief.must(manage, 403)
	access("read")
	writer.must(manage, 403)
	chief.must(manage, 204)
	access("", "other")
	chief.policy(policyOf("Deny", "*", "s3:*"), 204)
	chief.must(manage, 204)
	access("")
	for owner, status := range map[string]int{"reader": 400, "writer": 400, "chief": 200} {
		w.must(call{method: "PATCH", path: "/third/create", header: header("X-Vgw-Owner", owner)}, status)
	}
	if a := w.do(call{method: "PUT", path: "/bucket", query: "policy=", body: []byte(policyOf("Allow", "*", "s3:GetObject"))}); a.status != 403 {
		t.Errorf("a public policy: %d %s", a.status, a.body)
	}
	if _, err := os.Stat(w.g.upstream); err != nil {
		t.Fatal(err)
	}
}

// unsigned sends a request as a browser does.
func (w *wire) unsigned(method, path, body string, headers ...string) answered {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.g.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = header(headers...)
	return w.send(r)
}

// TestPublic: nobody gets in unsigned unless the gateway and the bucket both say so.
func TestPublic(t *testing.T) {
	w := newBucket(t)
	w.must(call{method: "PUT", path: "/bucket", query: "ownershipControls=", body: []byte("<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>")}, 200)
	acl := call{method: "PUT", path: "/bucket", query: "acl=", header: header("X-Amz-Acl", "public-read")}
	w.must(acl, 403)
	w.must(call{method: "PUT", path: "/bucket", query: "website=", body: []byte("<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>")}, 501)
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	expect := func(when string, want map[string]int) {
		t.Helper()
		for request, status := range want {
			method, path, _ := strings.Cut(request, " ")
			if a := w.unsigned(method, path, ""); a.status != status {
				t.Errorf("%s: %s: %d, want %d\n%s", when, request, a.status, status, a.body)
			}
		}
	}
	closed := map[string]int{
		"GET /": 403, "GET /bucket": 403, "GET /bucket/key": 403, "PUT /bucket/key": 403, "DELETE /bucket/key": 403, "GET /nothing": 403, "GET /bucket?policy": 403,
		"PUT /new": 403, "GET /snapshots": 403,
	}
	expect("off", closed)
	w.g.stop()
	w.g.config.Public = true
	w.g.start()
	expect("on, and nothing is public", closed)

	w.must(acl, 200)
	expect("public-read", map[string]int{"GET /bucket": 200, "HEAD /bucket/key": 200, "GET /bucket/key": 200, "PUT /bucket/key": 403, "GET /bucket?acl": 403, "GET /": 403})
	if a := w.must(call{method: "GET", path: "/bucket", query: "acl="}, 200); !strings.Contains(string(a.body), "global/AllUsers") {
		t.Errorf("the ACL reads %s", a.body)
	}
	w.policy(policyOf("Deny", "*", "s3:GetObject"), 204)
	expect("but for a policy", map[string]int{"GET /bucket": 200, "GET /bucket/key": 403})
	acl.header = header("X-Amz-Acl", "private")
	w.must(acl, 200)
	w.policy(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:PutObject","s3:*Policy"],"Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}]}`, 204)
	expect("a policy", map[string]int{
		"GET /bucket": 403, "GET /bucket/key": 200, "GET /bucket/key?response-expires=x": 400, "PUT /bucket/new": 200, "POST /bucket/new?uploads": 403,
		"GET /bucket?policy": 405, "DELETE /bucket?policy": 405, "DELETE /bucket/new": 403,
	})
	if a := w.unsigned("PUT", "/bucket/new", "x", "X-Amz-Copy-Source", "bucket/key"); a.status != 403 {
		t.Errorf("a copy: %d", a.status)
	}
	w.policy(policyOf("Allow", "*", "s3:*"), 204)
	for _, path := range []string{"/bucket?ownershipControls", "/bucket?acl", "/bucket/key?acl", "/bucket/new?uploadId=x&partNumber=1", "/fresh"} {
		if a := w.unsigned("PUT", path, "", "X-Amz-Copy-Source", "bucket/key", "X-Amz-Acl", "private"); a.status != 403 {
			t.Errorf("PUT %s with the header of a copy: %d %s", path, a.status, a.body)
		}
	}
	if a := w.unsigned("PUT", "/bucket/new", "x", "X-Amz-Content-Sha256", "wrong"); a.code() != "XAmzContentSHA256Mismatch" {
		t.Errorf("a wrong hash: %s", a.body)
	}
	block := call{method: "PUT", path: "/bucket", query: "publicAccessBlock=", body: []byte("<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>")}
	w.must(block, 200)
	expect("blocked", map[string]int{"GET /bucket/key": 403})
	w.policy(policyOf("Allow", "*", "s3:GetObject"), 403)
	block.method, block.body = "DELETE", nil
	w.must(block, 204)
	expect("open again", map[string]int{"GET /bucket/key": 200})
}

// TestWebsite: what a browser sees of a bucket that is a website.
func TestWebsite(t *testing.T) {
	w := newBucket(t, func(c *Config) { c.Public = true })
	for key, body := range map[string]string{"index.html": "home", "docs/index.html": "docs", "404.html": "lost", "private/x": "secret"} {
		w.must(call{method: "PUT", path: "/bucket/" + key, body: []byte(body), header: header("Content-Type", "text/html")}, 200)
	}
	w.must(call{method: "PUT", path: "/bucket/moved", header: header("X-Amz-Website-Redirect-Location", "/docs/")}, 200)
	w.policy(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"},
		{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/private/*"}]}`, 204)
	get := func(method, path string) (int, string, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, w.g.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "bucket.s3-website.localhost"
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.Header.Get("Location")
	}
	if status, _, _ := get("GET", "/"); status != 404 {
		t.Errorf("no website yet: %d", status)
	}
	site := call{method: "PUT", path: "/bucket", query: "website=", body: []byte(`<WebsiteConfiguration xmlns="` + xmlNamespace + `"><IndexDocument><Suffix>index.html</Suffix></IndexDocument>
		<ErrorDocument><Key>404.html</Key></ErrorDocument><RoutingRules>
		<RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith><HttpRedirectCode>302</HttpRedirectCode></Redirect></RoutingRule>
		<RoutingRule><Condition><KeyPrefixEquals>gone/</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>
		<Redirect><HostName>example.org</HostName><Protocol>https</Protocol><ReplaceKeyWith>sorry</ReplaceKeyWith></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>`)}
	w.must(site, 200)
	if a := w.must(call{method: "GET", path: "/bucket", query: "website="}, 200); string(a.body) != string(site.body) {
		t.Errorf("the website reads %s", a.body)
	}
	for _, tt := range []struct {
		method, path, body, location string
		status                       int
	}{
		{"GET", "/", "home", "", 200},
		{"HEAD", "/", "", "", 200},
		{"GET", "/docs/", "docs", "", 200},
		{"GET", "/docs", "", "/docs/", 302},
		{"GET", "/docs/index.html?versionId=x&acl", "docs", "", 200},
		{"GET", "/nothing", "lost", "", 404},
		{"GET", "/private/x", "lost", "", 403},
		{"GET", "/moved", "", "/docs/", 301},
		{"GET", "/old/" + url.PathEscape("a b"), "", "http://bucket.s3-website.localhost/new/a%20b", 302},
		{"GET", "/gone/x?a=b", "", "https://example.org/sorry?a=b", 301},
		{"PUT", "/docs/x", "", "", 405},
	} {
		status, body, location := get(tt.method, tt.path)
		if status != tt.status || location != tt.location || tt.status != 405 && body != tt.body {
			t.Errorf("%s %s: %d %q to %q, want %+v", tt.method, tt.path, status, body, location, tt)
		}
	}
	site.method, site.body = "DELETE", nil
	w.must(site, 204)
	if status, _, _ := get("GET", "/"); status != 404 {
		t.Errorf("no website any more: %d", status)
	}
}

// TestPolicyOfAnotherVersion: one that is kept but does not parse keeps everybody out,
// and who rules it can remove it.
func TestPolicyOfAnotherVersion(t *testing.T) {
	w := newBucket(t, func(c *Config) {
		c.Access = append(c.Access, AccessKey{ID: "other", Secret: NewSecret(testSecret)})
	})
	ix, err := w.g.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ix.findBucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	b.keep(policyDocument, []byte(`{"Statement":[]}`))
	if err := w.g.keepBucket(t.Context(), ix, "bucket", b); err != nil {
		t.Fatal(err)
	}
	remove := call{method: "DELETE", path: "/bucket", query: "policy="}
	other := *w
	other.access = "other"
	other.must(remove, 403)
	w.must(call{method: "GET", path: "/bucket"}, 403)
	w.must(remove, 204)
	w.must(call{method: "GET", path: "/bucket"}, 200)
}
