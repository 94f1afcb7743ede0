package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"coffer/seal"
)

// FuzzChunked: the framing either ends with io.EOF and exactly the bytes that
// were framed, or with a failure of the table.
func FuzzChunked(f *testing.F) {
	found := 0
	for _, v := range vectors(f) {
		if _, body, ok := bytes.Cut(v.raw, []byte("\r\n\r\n")); ok && len(body) > 100 {
			f.Add(body, true)
			found++
		}
	}
	if found == 0 {
		f.Fatal("no vector has a chunked body")
	}
	f.Add([]byte("3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"), true)
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"), false)
	f.Fuzz(func(t *testing.T, raw []byte, trailing bool) {
		c := newChunkReader(bytes.NewReader(raw), nil, trailing)
		c.announced = []string{"x-amz-checksum-crc32"}
		got, err := io.ReadAll(c)
		var failed *failure
		if err != nil && !errors.As(err, &failed) {
			t.Errorf("%q: %v", raw, err)
		}
		if len(got) > len(raw) {
			t.Errorf("%d bytes out of %d", len(got), len(raw))
		}
		if err != nil {
			return
		}
		again, err := io.ReadAll(newChunkReader(bytes.NewReader(frame(got)), nil, false))
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("framed again: %d bytes, %v; want %d", len(again), err, len(got))
		}
	})
}

func frame(data []byte) []byte {
	w := &wire{}
	return w.chunked(data, max(1, len(data)), "", "20130524T000000Z", "")
}

// FuzzXML: no body makes a parser panic, and what parses is parsed to the same
// from what it encodes to.
func FuzzXML(f *testing.F) {
	for _, s := range []string{
		`<Delete><Quiet>true</Quiet><Object><Key>a</Key><VersionId>null</VersionId></Object></Delete>`,
		`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"a"</ETag></Part></CompleteMultipartUpload>`,
		`<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>`,
		`<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>`,
		`<!DOCTYPE x [<!ENTITY a "b">]><Tagging>&a;</Tagging>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range []any{
			new(deleteRequest), new(completeRequest), new(taggingXML), new(corsXML), new(versioningXML), new(lockConfiguration),
			new(retentionXML), new(legalHoldXML), new(createBucketRequest), new(encryptionXML),
		} {
			if err := parseXML(raw, v); err != nil && !errors.Is(err, errMalformedXML) {
				t.Errorf("%T: %v", v, err)
			}
		}
		var tags, again taggingXML
		if parseXML(raw, &tags) != nil {
			return
		}
		data, err := xml.Marshal(tags)
		if err != nil {
			return
		}
		if err := parseXML(data, &again); err != nil || len(again.Tags) != len(tags.Tags) {
			t.Errorf("%q became %q: %v", raw, data, err)
		}
	})
}

// FuzzNames: the keys of rows keep the order of the names, and give them back;
// clear names are one to one.
func FuzzNames(f *testing.F) {
	f.Add("a", "a/b")
	f.Add("a\x00", "a\x00\xff")
	f.Add("", "\x00\x01")
	f.Add("a//b", "../%2F")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > maxKey || len(b) > maxKey {
			return
		}
		ka, kb := versionKey(rowObject, "bucket", a, 7), versionKey(rowObject, "bucket", b, 7)
		if strings.Compare(a, b) != bytes.Compare(ka, kb) {
			t.Errorf("%q and %q are in another order than their keys", a, b)
		}
		name, rest, err := parseNameKey(ka, "bucket")
		if err != nil || name != a || len(rest) != 8 {
			t.Errorf("%q came back as %q, %v", a, name, err)
		}
		if strings.HasPrefix(b, a) != bytes.HasPrefix(kb, prefixKey(rowObject, "bucket", a)) {
			t.Errorf("%q and %q: the keys do not agree on what is a prefix", a, b)
		}
		if s := successor(prefixKey(rowObject, "bucket", a)); s != nil && bytes.Compare(s, kb) <= 0 && strings.HasPrefix(b, a) {
			t.Errorf("the successor of %q is before %q", a, b)
		}
		if clear, ok := clearName(a); ok && a != "" {
			back, ok := openClearName(clear)
			if !ok || back != a {
				t.Errorf("%q is %q is %q", a, clear, back)
			}
		}
		if back, ok := openClearName(b); ok {
			if again, _ := clearName(back); again != b {
				t.Errorf("%q is the clear name of %q, as is %q", b, back, again)
			}
		}
	})
}

// FuzzUpstreamName: whatever the storage calls its objects, a name is refused or
// is the one that its object has.
func FuzzUpstreamName(f *testing.F) {
	keys := seal.NewKey().Keys(seal.NewStoreID())
	proxies := []*Proxy{{}, {clear: true}}
	for _, p := range proxies {
		for _, version := range []string{"", strings.Repeat("0f", 16)} {
			name, err := p.objectName(keys, "bucket", "some/key", version)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(name)
		}
	}
	f.Add("s3/bucket/.bucket")
	f.Fuzz(func(t *testing.T, name string) {
		for _, p := range proxies {
			u, err := p.parseUpstream(keys, name)
			if err != nil || u.isRow || u.sealed != "" {
				continue
			}
			if again, err := p.objectName(keys, u.bucket, u.key, u.version); err != nil || again != name && !strings.Contains(name, sealedMark) {
				t.Errorf("%q is %q of %q, which lies at %q (%v)", name, u.key, u.bucket, again, err)
			}
		}
	})
}

// FuzzPolicy: a policy of an upload form is refused or holds; it never panics.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"expiration":"2030-01-01T00:00:00Z","conditions":[{"bucket":"b"},["eq","$key","k"],["starts-with","$x",""],["content-length-range",1,"10"]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePolicy(base64.StdEncoding.EncodeToString(raw))
		if err != nil {
			return
		}
		if err := p.check("b", map[string]string{"surely-not-named": "1"}, p.expiration); err == nil && !strings.Contains(string(raw), "surely-not-named") {
			t.Errorf("%q allows a field that it does not name", raw)
		}
	})
}

// FuzzRange: a range lies within the object.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=5-", "bytes=-5", "bytes=9-0", "bytes=-0", "bytes=0-9,20-29", "bytes=99999999999999999999-", "bytes=0-9223372036854775807"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, err := parseRange(header, size)
		if err == nil && (s.off < 0 || s.n < 0 || s.off+s.n > size || s.n == 0 && size > 0) {
			t.Errorf("%q of %d bytes is %+v", header, size, s)
		}
		if s, err := parseCopyRange(header, size); err == nil && (s.off < 0 || s.n <= 0 || s.off+s.n > size) {
			t.Errorf("%q of %d bytes is %+v for a copy", header, size, s)
		}
	})
}

// FuzzConditions: lists of ETags do not panic, and "*" is always among them.
func FuzzConditions(f *testing.F) {
	f.Add(`"a", W/"b", *`, "a")
	f.Fuzz(func(t *testing.T, list, etag string) {
		if etagIn(list+", *", etag) != true {
			t.Error("the star does not match")
		}
		h := http.Header{"If-Match": {list}, "If-None-Match": {list}}
		_, _ = readWriteCondition(h)
		_ = checkRead(h, &row{ETag: etag})
	})
}
