package upstream_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"coffer/internal/testminio"
	"coffer/upstream"
)

var buckets atomic.Int32

func s3Config(t *testing.T, s *testminio.Server) upstream.Config {
	return upstream.Config{
		Type: "s3", Endpoint: s.Endpoint, Bucket: fmt.Sprintf("bucket-%d", buckets.Add(1)), Create: true,
		Prefix: "pre/fix-", AccessKey: s.Access, SecretKey: upstream.NewSecret(s.Secret),
	}
}

// MinIO refuses names with segments that are empty (inside and at the front),
// "." or "..", with a backslash, or longer than 255 bytes. It takes "a/b" beside
// an object "a", and then does not list it.
var minioNames = []string{
	"a", "b/c/d", "A", "Ä", "%", "%41", "a=", "a+", "=", "+", "a b", "é", "a*b?c", "a&b<c>\"d'", "x/.hidden", "...", "~", "a#b", "a:b;c,d@e",
	strings.Repeat("x", 240), strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200), "\x01", "a\tb",
}

func TestS3(t *testing.T) {
	server := testminio.StartServer(t)
	testBucket(t, store{
		open: func(t *testing.T) upstream.Bucket {
			b, err := upstream.Open(t.Context(), s3Config(t, server))
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		names: minioNames,
		flat:  true,
	})
}
