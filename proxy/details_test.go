package proxy

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDetails holds the answers to what clients do wrong, or ask for seldom,
// against what S3 says: status, code, and what else stands in the body.
func TestDetails(t *testing.T) {
	w := newBucket(t)
	sum := md5.Sum([]byte("x"))
	wrong := bytes.Repeat([]byte{1}, 16)
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x"), header: header("X-Amz-Website-Redirect-Location", "/there", "X-Amz-Meta-A", "1")}, 200)
	w.must(call{method: "PUT", path: "/bucket/zero"}, 200)
	w.must(call{method: "PUT", path: "/locked", header: header("X-Amz-Bucket-Object-Lock-Enabled", "true")}, 200)
	upload := w.startUpload("/bucket/parts")
	part := "partNumber=1&uploadId=" + upload
	past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	acl := func(owner, grantee, permission string) []byte {
		return []byte(`<AccessControlPolicy><Owner>` + owner + `</Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>` +
			grantee + `</ID></Grantee><Permission>` + permission + `</Permission></Grant></AccessControlList></AccessControlPolicy>`)
	}
	me := "<ID>" + testAccess + "</ID>"
	for name, tt := range map[string]struct {
		call
		status int
		code   string
		says   string // in the body
	}{
		"another MD5": {call{method: "PUT", path: "/bucket/key", body: []byte("x"), header: header("Content-Md5", base64.StdEncoding.EncodeToString(wrong))}, 400, "BadDigest",
			"<CalculatedDigest>" + base64.StdEncoding.EncodeToString(sum[:]) + "</CalculatedDigest><ExpectedDigest>" + hex.EncodeToString(wrong)},
		"two checksums":          {call{method: "PUT", path: "/bucket/key", header: header("X-Amz-Checksum-Crc32", "x", "X-Amz-Checksum-Sha1", "y")}, 400, "InvalidRequest", "Multiple checksum Types"},
		"not the one of the SDK": {call{method: "PUT", path: "/bucket/key", header: header("X-Amz-Checksum-Crc32", "AAAAAA==", "X-Amz-Sdk-Checksum-Algorithm", "SHA1")}, 400, "InvalidRequest", "x-amz-sdk-checksum-algorithm"},
		"both conditions":        {call{method: "PUT", path: "/bucket/key", header: header("If-None-Match", "*", "If-Match", "x")}, 501, "NotImplemented", ""},
		"large headers":          {call{method: "GET", path: "/bucket/key", header: header("X-Amz-Meta-A", strings.Repeat("a", 8<<10))}, 400, "RequestHeaderSectionTooLarge", "<MaxSizeAllowed>8192<"},
		"a tag twice":            {call{method: "PUT", path: "/bucket/key", header: header("X-Amz-Tagging", "a=1&a=2")}, 400, "InvalidArgument", "tag name duplicates"},
		"a tag without name":     {call{method: "PUT", path: "/bucket/key", header: header("X-Amz-Tagging", "=1")}, 400, "InvalidArgument", "x-amz-tagging"},
		"a public object":        {call{method: "PUT", path: "/bucket/key", header: header("X-Amz-Acl", "public-read")}, 400, "AccessControlListNotSupported", ""},
		"a shared object":        {call{method: "PUT", path: "/bucket/key", header: header("X-Amz-Grant-Read", "id=a")}, 400, "AccessControlListNotSupported", ""},
		"a private object":       {call{method: "PUT", path: "/bucket/private", header: header("X-Amz-Acl", "private")}, 200, "", ""},

		"removed: another size": {call{method: "DELETE", path: "/bucket/key", header: header("X-Amz-If-Match-Size", "2")}, 412, "PreconditionFailed", ""},
		"removed: another time": {call{method: "DELETE", path: "/bucket/key", header: header("X-Amz-If-Match-Last-Modified-Time", past)}, 412, "PreconditionFailed", ""},
		"removed by list":       {call{method: "POST", path: "/bucket", query: "delete=", body: []byte("<Delete><Object><Key>key</Key><Size>2</Size></Object></Delete>")}, 200, "", "<Code>PreconditionFailed</Code>"},
		"aborted at a time":     {call{method: "DELETE", path: "/bucket/parts", query: "uploadId=" + upload, header: header("X-Amz-If-Match-Initiated-Time", past)}, 412, "PreconditionFailed", ""},

		"last byte of nothing":  {call{method: "GET", path: "/bucket/zero", header: header("Range", "bytes=-1")}, 200, "", ""},
		"first byte of nothing": {call{method: "GET", path: "/bucket/zero", header: header("Range", "bytes=0-0")}, 416, "InvalidRange", ""},
		"part: too long":        {call{method: "PUT", path: "/bucket/parts", query: part, header: header("X-Amz-Copy-Source", "bucket/key", "X-Amz-Copy-Source-Range", "bytes=0-1")}, 400, "InvalidArgument", "object of size: 1"},
		"part: no such source":  {call{method: "PUT", path: "/bucket/parts", query: "partNumber=1&uploadId=none", header: header("X-Amz-Copy-Source", "bucket")}, 400, "InvalidArgument", "copy source object key"},
		"part: no upload":       {call{method: "PUT", path: "/bucket/parts", query: "partNumber=1"}, 400, "InvalidArgument", "partNumber without uploadId"},
		"part: no number":       {call{method: "PUT", path: "/bucket/parts", query: "uploadId=" + upload}, 405, "MethodNotAllowed", "<ResourceType>UPLOAD<"},
		"part: no checksum":     {call{method: "PUT", path: "/bucket/parts", query: part, header: header("X-Amz-Copy-Source", "bucket/key")}, 200, "", "<ETag>"},
		"a source in a GET":     {call{method: "GET", path: "/bucket/key", header: header("X-Amz-Copy-Source", "bucket/key")}, 400, "InvalidArgument", "copy requests"},
		"an encoded version":    {call{method: "PUT", path: "/bucket/copy", header: header("X-Amz-Copy-Source", "bucket/key%3FversionId%3Dnull")}, 200, "", ""},
		"POST to the service":   {call{method: "POST", path: "/"}, 405, "MethodNotAllowed", "<ResourceType>SERVICE<"},

		"retained: no key":      {call{method: "PUT", path: "/locked/none", query: "retention=", body: []byte("<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2100-01-01T00:00:00Z</RetainUntilDate></Retention>")}, 404, "NoSuchKey", ""},
		"retained: nonsense":    {call{method: "PUT", path: "/locked/none", query: "retention=", body: []byte("<Retention><Mode>NO</Mode></Retention>")}, 400, "MalformedXML", ""},
		"retained: past":        {call{method: "PUT", path: "/locked/none", query: "retention=", body: []byte("<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>" + past + "</RetainUntilDate></Retention>")}, 400, "InvalidArgument", "in the future"},
		"upload retained: past": {call{method: "POST", path: "/bucket/key", query: "uploads=", header: header("X-Amz-Object-Lock-Mode", "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date", past)}, 400, "InvalidArgument", "in the future"},
		"on hold: nonsense":     {call{method: "PUT", path: "/locked/none", query: "legal-hold=", body: []byte("<LegalHold/>")}, 400, "MalformedXML", ""},
		"lock: no body":         {call{method: "PUT", path: "/locked", query: "object-lock="}, 400, "MissingRequestBodyError", ""},

		"bucket: elsewhere":       {call{method: "PUT", path: "/new", body: []byte("<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>")}, 400, "InvalidLocationConstraint", "<LocationConstraint>us-east-1<"},
		"bucket: public":          {call{method: "PUT", path: "/new", header: header("X-Amz-Acl", "public-read")}, 400, "InvalidBucketAclWithObjectOwnership", ""},
		"bucket: too many":        {call{method: "GET", path: "/", query: "max-buckets=10001"}, 400, "InvalidArgument", "<ArgumentValue>10001<"},
		"bucket: no such, policy": {call{method: "PUT", path: "/new", query: "policy="}, 404, "NoSuchBucket", ""},
		"attributes: no bucket":   {call{method: "GET", path: "/new/key", query: "attributes="}, 404, "NoSuchBucket", ""},

		"owners: default":  {call{method: "GET", path: "/locked", query: "ownershipControls="}, 200, "", "BucketOwnerEnforced"},
		"owners: nonsense": {call{method: "PUT", path: "/bucket", query: "ownershipControls=", body: []byte("<OwnershipControls/>")}, 400, "MalformedXML", ""},
		"ACL: nothing":     {call{method: "PUT", path: "/bucket", query: "acl="}, 404, "MissingSecurityHeader", ""},
		"ACL: private":     {call{method: "PUT", path: "/bucket", query: "acl=", header: header("X-Amz-Acl", "private")}, 200, "", ""},
		"ACL: public":      {call{method: "PUT", path: "/bucket", query: "acl=", header: header("X-Amz-Acl", "public-read")}, 400, "AccessControlListNotSupported", ""},
		"ACL: unknown":     {call{method: "PUT", path: "/bucket", query: "acl=", header: header("X-Amz-Acl", "open")}, 400, "InvalidArgument", "x-amz-acl"},
		"ACL: twice":       {call{method: "PUT", path: "/bucket", query: "acl=", header: header("X-Amz-Acl", "private"), body: acl(me, testAccess, "READ")}, 400, "UnexpectedContent", ""},
		"ACL: no owner":    {call{method: "PUT", path: "/bucket", query: "acl=", body: acl("", testAccess, "READ")}, 400, "MalformedACLError", ""},
		"ACL: no right":    {call{method: "PUT", path: "/bucket", query: "acl=", body: acl(me, testAccess, "PLAY")}, 400, "MalformedACLError", ""},
		"ACL: my own":      {call{method: "PUT", path: "/bucket", query: "acl=", body: acl(me, testAccess, "FULL_CONTROL")}, 200, "", ""},
		"ACL: another's":   {call{method: "PUT", path: "/bucket", query: "acl=", body: acl(me, "other", "READ")}, 400, "AccessControlListNotSupported", ""},
	} {
		a := w.do(tt.call)
		if a.status != tt.status || a.code() != tt.code || !strings.Contains(string(a.body), tt.says) {
			t.Errorf("%s: %d %s, want %d %s with %s\n%s", name, a.status, a.code(), tt.status, tt.code, tt.says, a.body)
		}
	}
	if a := w.get("/bucket/copy"); a.header.Get("X-Amz-Meta-A") != "1" || a.header.Get("X-Amz-Website-Redirect-Location") != "" || a.header.Get("X-Amz-Storage-Class") != "STANDARD" {
		t.Errorf("a copy: %v", a.header)
	}
}

// TestOwnership: the setting is remembered, and forgotten.
func TestOwnership(t *testing.T) {
	w := newBucket(t)
	c := call{path: "/bucket", query: "ownershipControls="}
	put, get, remove := c, c, c
	put.method, get.method, remove.method = "PUT", "GET", "DELETE"
	put.body = []byte("<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>")
	w.must(put, 200)
	w.g.restart()
	if a := w.must(get, 200); !bytes.Contains(a.body, []byte("ObjectWriter")) {
		t.Errorf("%s", a.body)
	}
	w.must(remove, 204)
	if a := w.must(get, 404); a.code() != "OwnershipControlsNotFoundError" {
		t.Errorf("%s", a.body)
	}
}

// TestExpired: a presigned URL that is too old says by how much, and one that
// claims a session is refused.
func TestExpired(t *testing.T) {
	w := newBucket(t)
	u, err := w.g.client().PresignedGetObject(t.Context(), "bucket", "key", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	get := func(u string) answered {
		r, err := http.NewRequest("GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.send(r)
	}
	if a := get(u.String() + "&X-Amz-Security-Token=x"); a.code() != "InvalidToken" {
		t.Errorf("a session: %d %s", a.status, a.body)
	}
	w.g.now = func() time.Time { return time.Now().Add(time.Hour) }
	if a := get(u.String()); a.status != 403 || !bytes.Contains(a.body, []byte("<X-Amz-Expires>60</X-Amz-Expires>")) {
		t.Errorf("an hour later: %d %s", a.status, a.body)
	}
}

// TestFraming: a chunked body that is framed wrongly is IncompleteBody in words of
// its own, and a trailer must be announced.
func TestFraming(t *testing.T) {
	w := newBucket(t)
	for body, want := range map[string]string{
		"a\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:poTHxg==\r\n\r\n": "",
		"a\n0123456789\r\n0\r\n\r\n":                                    "IncompleteBody",
		"a\r\n01234567890\r\n\r\n":                                      "IncompleteBody",
		"b\r\n0123456789\r\n0\r\n\r\n":                                  "IncompleteBody",
		"a\r\n0123456789\r\n0\r\n":                                      "IncompleteBody",
		"a\r\n0123456789\r\nzz\r\n\r\n":                                 "IncompleteBody",
		"a\r\n0123456789\r\n0\r\n\r\n":                                  "MalformedTrailerError",
		"a\r\n0123456789\r\n0\r\n:poTHxg==\r\n\r\n":                     "MalformedTrailerError",
		"a\r\n0123456789\r\n0\r\nx-other:poTHxg==\r\n\r\n":              "MalformedTrailerError",
		"a\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n": "BadDigest",
	} {
		r := w.request(call{method: "PUT", path: "/bucket/key", body: []byte(body), payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
			header: header("X-Amz-Decoded-Content-Length", "10", "X-Amz-Trailer", "x-amz-checksum-crc32")})
		w.sign(r)
		a := w.send(r)
		if a.code() != want || want == "IncompleteBody" && !bytes.Contains(a.body, []byte("terminated unexpectedly")) {
			t.Errorf("%q: %d %s, want %s", body, a.status, a.body, want)
		}
	}
}

// TestListDetails: what a listing says beside its names: what was asked for, even
// if that is nothing, and names in the form that was asked for.
func TestListDetails(t *testing.T) {
	w := newBucket(t)
	for _, key := range []string{"x\x01y", "ä b", "z/1", "z/2"} {
		w.must(call{method: "PUT", path: "/bucket/" + awsEncode(key, false)}, 200)
	}
	for query, want := range map[string][]string{
		"prefix=&marker=":                 {"<Prefix></Prefix>", "<Marker></Marker>", "<Key>x&#x1;y</Key>", "<Key>ä b</Key>"},
		"list-type=2&prefix=":             {"<Prefix></Prefix>", "<KeyCount>4</KeyCount>"},
		"list-type=2&continuation-token=": {"<ContinuationToken></ContinuationToken>", "<KeyCount>4</KeyCount>"},
		"list-type=2&delimiter=/":         {"<KeyCount>3</KeyCount>", "<CommonPrefixes><Prefix>z/</Prefix></CommonPrefixes>", "<Delimiter>/</Delimiter>"},
		"encoding-type=url":               {"<EncodingType>url</EncodingType>", "<Key>x%01y</Key>", "<Key>%C3%A4%20b</Key>", "<Key>z/1</Key>"},
		"list-type=2&max-keys=1&prefix=z": {"<IsTruncated>true</IsTruncated>", "<NextContinuationToken>", "<Prefix>z</Prefix>", "<MaxKeys>1</MaxKeys>"},
		"list-type=2&fetch-owner=true":    {"<Owner><ID>" + testAccess + "</ID>"},
		"versions=":                       {"<KeyMarker></KeyMarker>", "<VersionId>null</VersionId>"},
		"uploads=":                        {"<KeyMarker></KeyMarker>", "<UploadIdMarker></UploadIdMarker>", "<Prefix></Prefix>"},
		"list-type=2&start-after=" + url.QueryEscape("x\x01y"): {"<StartAfter>x&#x1;y</StartAfter>", "<KeyCount>3</KeyCount>"},
	} {
		a := w.must(call{method: "GET", path: "/bucket", query: query}, 200)
		for _, s := range want {
			if !bytes.Contains(a.body, []byte(s)) {
				t.Errorf("%s: no %s in\n%s", query, s, a.body)
			}
		}
	}
}

// TestUploadOrder: uploads of one key are listed as they began, page by page.
func TestUploadOrder(t *testing.T) {
	w := newBucket(t)
	var want, got []string
	for range 5 {
		want = append(want, w.startUpload("/bucket/key"))
	}
	query := "uploads=&max-uploads=2"
	for more := true; more && len(got) <= len(want); {
		a := w.must(call{method: "GET", path: "/bucket", query: query}, 200)
		var out struct {
			IsTruncated        bool
			NextUploadIdMarker string
			Upload             []struct{ UploadId string }
		}
		if err := xml.Unmarshal(a.body, &out); err != nil {
			t.Fatal(err)
		}
		for _, u := range out.Upload {
			got = append(got, u.UploadId)
		}
		query, more = "uploads=&max-uploads=2&key-marker=key&upload-id-marker="+out.NextUploadIdMarker, out.IsTruncated
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDigestOfDeletes: DeleteObjects takes any proof of its body, and none without.
func TestDigestOfDeletes(t *testing.T) {
	w := newBucket(t)
	body := []byte("<Delete><Object><Key>key</Key></Object></Delete>")
	sum, crc := md5.Sum(body), algCRC32.new()
	crc.Write(body)
	for name, tt := range map[string]struct {
		header http.Header
		status int
	}{
		"nothing":         {nil, 400},
		"MD5":             {header("Content-Md5", base64.StdEncoding.EncodeToString(sum[:])), 200},
		"another MD5":     {header("Content-Md5", base64.StdEncoding.EncodeToString(make([]byte, 16))), 400},
		"CRC32":           {header("X-Amz-Checksum-Crc32", base64.StdEncoding.EncodeToString(crc.Sum(nil))), 200},
		"another's CRC32": {header("X-Amz-Checksum-Crc32", "AAAAAA=="), 400},
	} {
		a := w.do(call{method: "POST", path: "/bucket", query: "delete=", body: body, payload: "UNSIGNED-PAYLOAD", header: tt.header})
		if a.status != tt.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// TestMultipartChecksum: a CRC is that of the whole object, or, as every other, that
// of the checksums of the parts, with their number behind; and a Complete that
// declares it is held to it.
func TestMultipartChecksum(t *testing.T) {
	w := newBucket(t)
	data := [][]byte{randomBytes(1, 5<<20), randomBytes(2, 1000)}
	for _, tt := range []struct {
		alg  algorithm
		kind string
	}{{algCRC32, typeFull}, {algCRC64NVME, typeFull}, {algCRC32C, typeFull}, {algCRC32C, typeComposite}, {algSHA1, typeComposite}, {algSHA256, typeComposite}} {
		upload := w.startUpload("/bucket/key", "X-Amz-Checksum-Algorithm", string(tt.alg), "X-Amz-Checksum-Type", tt.kind)
		whole, composite := tt.alg.new(), tt.alg.new()
		parts, last := "", ""
		for i, d := range data {
			h := tt.alg.new()
			h.Write(d)
			whole.Write(d)
			composite.Write(h.Sum(nil))
			value := base64.StdEncoding.EncodeToString(h.Sum(nil))
			a := w.must(call{method: "PUT", path: "/bucket/key", query: fmt.Sprintf("partNumber=%d&uploadId=%s", i+1, upload), body: d, header: header(tt.alg.header(), value)}, 200)
			last = value
			parts += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><Checksum%s>%s</Checksum%s></Part>", i+1, a.header.Get("Etag"), tt.alg, value, tt.alg)
		}
		want := base64.StdEncoding.EncodeToString(whole.Sum(nil))
		if tt.kind == typeComposite {
			want = base64.StdEncoding.EncodeToString(composite.Sum(nil)) + "-2"
		}
		complete := call{method: "POST", path: "/bucket/key", query: "uploadId=" + upload, body: []byte("<CompleteMultipartUpload>" + parts + "</CompleteMultipartUpload>")}
		complete.header = header(tt.alg.header(), base64.StdEncoding.EncodeToString(make([]byte, tt.alg.size())))
		if a := w.do(complete); a.code() != "BadDigest" {
			t.Errorf("%s %s: another checksum: %d %s", tt.alg, tt.kind, a.status, a.body)
		}
		complete.header = header(tt.alg.header(), want, "X-Amz-Checksum-Type", tt.kind)
		if a := w.must(complete, 200); !bytes.Contains(a.body, []byte(">"+want+"<")) {
			t.Errorf("%s %s: no %s in %s", tt.alg, tt.kind, want, a.body)
		}
		a := w.must(call{method: "HEAD", path: "/bucket/key", header: header("X-Amz-Checksum-Mode", "ENABLED")}, 200)
		if a.header.Get(tt.alg.header()) != want || a.header.Get("X-Amz-Checksum-Type") != tt.kind {
			t.Errorf("%s %s: HEAD says %v", tt.alg, tt.kind, a.header)
		}
		a = w.must(call{method: "GET", path: "/bucket/key", query: "partNumber=2", header: header("X-Amz-Checksum-Mode", "ENABLED")}, 206)
		if a.header.Get(tt.alg.header()) != last || a.header.Get("X-Amz-Checksum-Type") != tt.kind {
			t.Errorf("%s %s: GET of a part says %v", tt.alg, tt.kind, a.header)
		}
		if again := w.must(complete, 200); !bytes.Contains(again.body, []byte(">"+want+"<")) {
			t.Errorf("%s %s: the second time: %s", tt.alg, tt.kind, again.body)
		}
	}
}
