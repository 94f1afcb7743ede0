// Package proxy is an S3 endpoint that encrypts: what a client puts is sealed on
// its way to an untrusted upstream, and opened on its way back. Clients need no
// change: names, sizes, ETags, checksums and conditions are those of the plain
// objects, in the order of the plain names.
//
// One S3 object is one upstream object in the format of package seal, under the
// prefix "s3/". Its names are sealed, so a local ordered index (pebble) answers
// listings; it is written in the transaction that acknowledges a write, and is
// rebuilt from the upstream with the key alone when it is lost. FORMAT.md says
// what lies upstream and in the index.
//
// What is not supported is answered with 501 and an S3 error body. Nothing that
// failed to open is ever sent as if it had not: an error after the first byte
// cuts the connection.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/seal"
	"coffer/upstream"
)

// Bucket is the part of an upstream that the gateway uses; see [upstream.Bucket]
// for the contract of each method.
type Bucket interface {
	Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error)
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error)
	Head(ctx context.Context, name string) (upstream.Info, error)
	List(ctx context.Context, prefix, after string, fn func(upstream.Info) error) error
	Delete(ctx context.Context, name string) error
	Copy(ctx context.Context, dst, src string, o upstream.PutOptions) (upstream.Info, error)
	StartMultipart(ctx context.Context, name string, o upstream.PutOptions) (string, error)
	PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error)
	CompleteMultipart(ctx context.Context, name, id string, parts []upstream.Part, o upstream.PutOptions) (upstream.Info, error)
	AbortMultipart(ctx context.Context, name, id string) error
	ListMultipart(ctx context.Context, prefix string, fn func(upstream.Upload) error) error
}

// Keys gives the keys of the store while the keyring is unlocked, else an error:
// requests are then answered with 503.
type Keys interface {
	Keys() (*seal.Keys, error)
}

// Config says what the gateway serves and to whom.
type Config struct {
	Bucket   Bucket      // required: where the sealed objects lie
	Keys     Keys        // required
	StateDir string      // required: index, multipart state and spool; made 0700 if it is not there
	Access   []AccessKey // who is let in; see SetAccess

	Region    string    // that clients sign for; "" means us-east-1
	Names     string    // "sealed" (default) or "clear": object names upstream
	ETag      string    // "md5" (default) or "opaque", which saves computing MD5
	Public    bool      // policies and ACLs can open buckets to requests that nobody signed
	Snapshots Snapshots // what the read-only bucket "snapshots" shows; nil: there is none

	Domains []string              // for BUCKET.DOMAIN in the Host header; default "localhost"
	Log     *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing
}

// AccessKey lets a client in.
type AccessKey struct {
	ID      string // the access key id, public
	Secret  Secret
	Buckets []string // which it may use; "*" at the end stands for anything; none means all
	Rights  string   // "read", or "write" (default): reads and writes
}

// Secret is a secret access key. It prints "proxy.Secret(hidden)".
type Secret struct{ value func() string } // fmt prints the address of a function, whatever the verb

// NewSecret hides s.
func NewSecret(s string) Secret { return Secret{func() string { return s }} }

func (s Secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// Format writes "proxy.Secret(hidden)" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "proxy.Secret(hidden)") }

// MarshalText keeps the secret out of encoders as well.
func (Secret) MarshalText() ([]byte, error) { return []byte("hidden"), nil }

// Proxy is the gateway: an [http.Handler].
type Proxy struct {
	bucket  Bucket
	keys    Keys
	dir     string
	region  string
	clear   bool // names are clear upstream
	opaque  bool // ETags are random
	public  bool // see Config.Public
	domains []string
	access  atomic.Pointer[map[string]*identity] // by access key id; replaced whole
	snaps   Snapshots                            // nil: no such bucket
	log     *zap.Logger
	metrics *metrics
	locks   keyLocks
	admit   admission
	now     func() time.Time

	admitUnsigned admission // for requests that nobody signed

	// life is held for reading by each request, and for writing when the index is
	// closed under none of them.
	life sync.RWMutex

	// buckets is held for reading while an object is written, and for writing
	// while a bucket is found to be empty and removed.
	buckets sync.RWMutex

	// opening is full while somebody holds it; it guards index and closed. The
	// index is set once it is open and agrees with the upstream; leftover are the
	// files in the spool from before.
	opening  chan struct{}
	index    *index
	leftover map[string]bool
	closed   bool

	swept time.Time // when the upstream's uploads were last looked through; for tidy only
}

// New checks c and makes the state folder. It opens nothing yet: the index is
// opened by the first request after the keyring is unlocked, or by Run.
func New(c Config) (*Proxy, error) {
	if c.Bucket == nil || c.Keys == nil || c.StateDir == "" {
		return nil, errors.New("gateway: Bucket, Keys and StateDir are required")
	}
	p := &Proxy{
		bucket: c.Bucket, keys: c.Keys, dir: c.StateDir,
		region: c.Region, domains: c.Domains, public: c.Public, snaps: c.Snapshots, log: c.Log, now: time.Now,
		opening: make(chan struct{}, 1), admit: make(admission, maxRequests), admitUnsigned: make(admission, maxUnsigned),
	}
	if p.region == "" {
		p.region = "us-east-1"
	}
	if p.domains == nil {
		p.domains = []string{"localhost"}
	}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	switch c.Names {
	case "", "sealed":
	case "clear":
		p.clear = true
	default:
		return nil, fmt.Errorf("gateway: names %q, want sealed or clear", c.Names)
	}
	switch c.ETag {
	case "", "md5":
	case "opaque":
		p.opaque = true
	default:
		return nil, fmt.Errorf("gateway: etag %q, want md5 or opaque", c.ETag)
	}
	if err := p.SetAccess(c.Access); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(c.StateDir, "spool"), 0o700); err != nil {
		return nil, fmt.Errorf("gateway: making the state folder: %w", err)
	}
	p.metrics = newMetrics(c.Metrics)
	return p, nil
}

// SetAccess lets in the requests that begin from now on by keys, and by no others:
// nobody, if there are none. After an error the keys are those of before.
func (p *Proxy) SetAccess(keys []AccessKey) error {
	access := make(map[string]*identity, len(keys))
	for _, k := range keys {
		switch {
		case len(k.ID) < 3 || len(k.ID) > 128 || strings.ContainsAny(k.ID, "/,= "):
			return fmt.Errorf("gateway: access key id %q: want 3 to 128 letters and digits", k.ID)
		case len(k.Secret.reveal()) < 8:
			return fmt.Errorf("gateway: secret of access key %s: want at least 8 characters", k.ID)
		case !slices.Contains([]string{"", "read", "write"}, k.Rights):
			return fmt.Errorf("gateway: rights %q of access key %s, want read or write", k.Rights, k.ID)
		case access[k.ID] != nil:
			return fmt.Errorf("gateway: access key %s is there twice", k.ID)
		}
		access[k.ID] = &identity{key: k}
	}
	p.access.Store(&access)
	return nil
}

// identity is who has the access key id, nil if nobody.
func (p *Proxy) identity(id string) *identity { return (*p.access.Load())[id] }

// Run opens the index as soon as the keyring is unlocked and looks after the
// state: it ends uploads that nobody completed. It returns nil when ctx ends,
// once the requests that are running then have ended and the index is closed;
// later requests are answered with 503.
func (p *Proxy) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if _, err := p.open(ctx); err == nil {
			p.tidy(ctx)
		}
		select {
		case <-ctx.Done():
			return p.close()
		case <-tick.C:
		}
	}
}
