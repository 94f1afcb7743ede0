package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Config says where a Bucket is and how to reach it.
type Config struct {
	Type string // "folder" or "s3"

	Path string // folder: must exist, or Create is set

	Endpoint  string // s3: https://HOST[:PORT], or http:// for plain
	Bucket    string // s3: must exist, or Create is set
	Prefix    string // s3: put before every name as it is; usually ends with "/"
	Region    string // s3: empty asks the store
	PathStyle bool   // s3: https://HOST/BUCKET, as self-hosted stores want it; IP addresses and localhost have it always
	Class     string // s3: storage class of what is written; empty means the store's own
	TLS       TLS    // s3
	Create    bool   // make the folder, with its parents, or the bucket if it is not there

	// The key for S3: given here, else in files (one line each), else in the
	// environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN),
	// else in the default profile of ~/.aws/credentials. Files and environment
	// are read by Open.
	AccessKey     string
	SecretKey     Secret
	AccessKeyFile string
	SecretKeyFile string

	Auth Auth // s3: other ways to a key

	Lock   Lock    // s3: what is kept, and for how long
	Limits *Limits // s3: of bandwidth; nil: none
	Tally  *Tally  // s3: counts requests; nil: does not

	Timeout time.Duration // without progress, after which a call fails; 0 means 30 s
	Retries int           // of what may be tried again; 0 means 5, -1 none

	Transport http.RoundTripper     // s3: for tests; nil makes one
	Log       *zap.Logger           // nil logs nothing
	Metrics   prometheus.Registerer // nil registers nothing
}

// Open returns the Bucket of c after one request that shows that it is there and
// may be read. A Bucket that is also an io.Closer holds files open until then.
func Open(ctx context.Context, c Config) (Bucket, error) {
	switch c.Type {
	case "folder":
		if !c.Create {
			return OpenFolder(c.Path)
		}
		return NewFolder(c.Path)
	case "s3":
		s, err := NewS3(c)
		if err != nil {
			return nil, err
		}
		if err := s.Check(ctx); err != nil {
			return nil, err
		}
		return s, nil
	default:
		return nil, fmt.Errorf("upstream type %q, want folder or s3", c.Type)
	}
}

// Secret is a string that no format verb and no encoder prints.
type Secret struct{ value func() string } // fmt prints the address of a function, whatever the verb

// NewSecret hides s.
func NewSecret(s string) Secret { return Secret{func() string { return s }} }

// Reveal returns the string; empty for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// Format writes "upstream.Secret(hidden)" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "upstream.Secret(hidden)") }

// MarshalText keeps the secret out of encoders as well.
func (Secret) MarshalText() ([]byte, error) { return []byte("hidden"), nil }
