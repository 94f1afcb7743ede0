package proxy

import (
	"strings"
	"testing"
)

// TestUnsignedLearnNoKey: who does not sign is not told an access key, whatever the
// bucket lets everybody do, and cannot find out whether there is one.
func TestUnsignedLearnNoKey(t *testing.T) {
	w := newBucket(t, func(c *Config) { c.Public = true })
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	upload := w.startUpload("/bucket/large")
	w.policy(policyOf("Allow", "*", "s3:*"), 204)
	for path, element := range map[string]string{
		"/bucket": "<Key>key<", "/bucket?list-type=2&fetch-owner=true": "<Key>key<", "/bucket?versions": "<Key>key<", "/bucket?uploads": "<Key>large<",
		"/bucket/large?uploadId=" + upload: "<Key>large<", "/bucket?acl": "FULL_CONTROL", "/bucket/key?acl": "FULL_CONTROL",
	} {
		a := w.unsigned("GET", path, "")
		if body := string(a.body); a.status != 200 || !strings.Contains(body, element) || strings.Contains(body, testAccess) {
			t.Errorf("%s: %d %s", path, a.status, body)
		}
	}
	for _, key := range []string{testAccess, "somebody"} {
		if a := w.unsigned("GET", "/bucket/key", "", "X-Amz-Expected-Bucket-Owner", key); a.status != 403 {
			t.Errorf("is %s the owner: %d %s", key, a.status, a.body)
		}
	}
	if a := w.must(call{method: "GET", path: "/bucket"}, 200); !strings.Contains(string(a.body), testAccess) {
		t.Errorf("who signs is told: %s", a.body)
	}
}
