package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/zap"
)

// S3 is a Bucket in a store that speaks S3. What the store or the network fails
// at is tried again, with growing delays, if that can do no harm.
//
// Bodies travel with the cheapest protection that is safe, as sealed objects are
// checked again when they are read: a CRC32C where the body can be read twice,
// TLS alone where it cannot, and over plain HTTP signed chunks (SHA-256), or a
// CRC32C behind the body on loopback, where nobody sits in between. That costs
// this side 0.4 s of processor time a GiB, and 1.0 s for signed chunks; the MD5
// that older stores asked for would be 2.7 s.
type S3 struct {
	core    minio.Core
	class   string // of storage
	lock    Lock
	bucket  string
	prefix  string
	region  string
	create  bool
	retries int
	maxCopy int64
	local   bool // on loopback: nobody can change what is on the way
	log     *zap.Logger
}

// NewS3 checks c and returns its Bucket. It reads the key, and sends nothing.
func NewS3(c Config) (*S3, error) {
	s, err := newS3(c)
	if err != nil {
		return nil, fmt.Errorf("s3 bucket %q at %s: %w", c.Bucket, c.Endpoint, err)
	}
	return s, nil
}

func newS3(c Config) (*S3, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, errors.New("endpoint: want https://HOST or http://HOST, with :PORT or without")
	}
	if c.Bucket == "" {
		return nil, errors.New("no bucket given")
	}
	if err := c.Lock.check(); err != nil {
		return nil, err
	}
	creds, err := findCredentials(c)
	if err != nil {
		return nil, err
	}
	base := c.Transport
	if base == nil {
		if base, err = newTransport(c.TLS); err != nil {
			return nil, err
		}
	}
	meter, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	timeout := cmp.Or(c.Timeout, 30*time.Second)
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds:        creds,
		Secure:       u.Scheme == "https",
		Transport:    &transport{base: base, timeout: timeout, metrics: meter, limits: c.Limits, tally: c.Tally},
		Region:       c.Region,
		BucketLookup: lookup,
		MaxRetries:   1, // ours know what may be sent twice
	})
	if err != nil {
		return nil, err
	}
	log := c.Log
	if log == nil {
		log = zap.NewNop()
	}
	return &S3{
		core: *core, class: c.Class, lock: c.Lock, bucket: c.Bucket, prefix: c.Prefix, region: c.Region, create: c.Create,
		retries: max(cmp.Or(c.Retries, 5), 0), maxCopy: maxCopy, local: isLoopback(u.Hostname()), log: log,
	}, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Check asks the store whether the bucket is there and may be read, and makes it
// if Config.Create is set.
func (s *S3) Check(ctx context.Context) error {
	err := s.do(ctx, "head", always, func(ctx context.Context) error {
		ok, err := s.core.BucketExists(ctx, s.bucket)
		if err == nil && !ok {
			return errNoBucket
		}
		return err
	})
	if errors.Is(err, errNoBucket) && s.create {
		err = s.do(ctx, "put", always, func(ctx context.Context) error {
			return s.core.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: s.region, ObjectLocking: s.lock.Mode != ""})
		})
		var answer minio.ErrorResponse
		if errors.As(err, &answer) && answer.Code == minio.BucketAlreadyOwnedByYou {
			err = nil
		}
	}
	if err == nil && s.lock.Mode != "" {
		err = s.checkLock(ctx)
	}
	if err != nil {
		return fmt.Errorf("s3 bucket %q at %s: %w", s.bucket, s.core.EndpointURL(), err)
	}
	return nil
}

var errNoBucket = errors.New("bucket does not exist")

// key returns the name that the store knows the object by.
func (s *S3) key(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if len(s.prefix)+len(name) > MaxName {
		return "", fmt.Errorf("object name of %d bytes with its prefix, want at most %d", len(s.prefix)+len(name), MaxName)
	}
	return s.prefix + name, nil
}

// Head implements [Bucket].
func (s *S3) Head(ctx context.Context, name string) (Info, error) {
	key, err := s.key(name)
	var found minio.ObjectInfo
	if err == nil {
		err = s.do(ctx, "head", always, func(ctx context.Context) error {
			found, err = s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
			return err
		})
	}
	if err == nil && found.Size < 0 {
		err = fmt.Errorf("storage gives no size: %w", ErrDamaged)
	}
	if err != nil {
		return Info{}, fmt.Errorf("describing %q: %w", name, err)
	}
	return s3Info(name, found), nil
}

// s3Info leaves out the metadata that is not ours: headers of the store's own.
func s3Info(name string, found minio.ObjectInfo) Info {
	info := Info{Name: name, Size: found.Size, ModTime: found.LastModified, ETag: unquote(found.ETag), Meta: make(map[string]string)}
	for k, v := range found.UserMetadata {
		info.Meta[strings.ToLower(k)] = v
	}
	return info
}

func unquote(etag string) string { return strings.Trim(etag, `"`) }

// List implements [Bucket].
func (s *S3) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	last := s.prefix + after
	if after == "" {
		last = ""
	}
	var called error // of fn
	err := s.do(ctx, "list", always, func(ctx context.Context) error {
		noOwner := false
		for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{
			Prefix: s.prefix + prefix, StartAfter: last, Recursive: true, FetchOwner: &noOwner,
		}) {
			if o.Err != nil {
				return o.Err
			}
			if last != "" && o.Key <= last || !strings.HasPrefix(o.Key, s.prefix+prefix) {
				return fmt.Errorf("storage lists %q after %q: %w", o.Key, last, ErrDamaged)
			}
			last = o.Key // where a second try goes on
			info := Info{Name: o.Key[len(s.prefix):], Size: o.Size, ModTime: o.LastModified, ETag: unquote(o.ETag)}
			if called = fn(info); called != nil {
				return errCallback
			}
		}
		return ctx.Err() // the iterator ends without an error when ctx does
	})
	if errors.Is(err, errCallback) {
		return called
	}
	if err != nil {
		return fmt.Errorf("listing %q: %w", prefix, err)
	}
	return nil
}

// Delete implements [Bucket].
func (s *S3) Delete(ctx context.Context, name string) error {
	key, err := s.key(name)
	var version string
	if err == nil && s.Locks(name) {
		version, err = s.removable(ctx, key)
	}
	remove := func(ctx context.Context) error {
		return s.core.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{VersionID: version})
	}
	if err == nil {
		err = s.do(ctx, "delete", always, remove)
	}
	if version != "" && isDenied(err) { // a key may have the right to hide only
		version = ""
		err = s.do(ctx, "delete", always, remove)
	}
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("deleting %q: %w", name, err)
	}
	return nil
}

// Get implements [Bucket].
func (s *S3) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, Info, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, Info{}, fmt.Errorf("getting %q: %w", name, err)
	}
	if n == 0 {
		info, err := s.Head(ctx, name)
		return http.NoBody, info, err
	}
	b := &s3Body{s: s, ctx: ctx, key: key, tries: s.retries}
	info, err := b.open(name, off, n)
	if errors.Is(err, errRange) { // begins at the end or behind it, or the object is empty
		info, err := s.Head(ctx, name)
		if err == nil && off < info.Size && info.Size > 0 {
			err = fmt.Errorf("getting %q: storage refuses the range: %w", name, ErrDamaged)
		}
		return http.NoBody, info, err
	}
	if err != nil {
		return nil, Info{}, fmt.Errorf("getting %q: %w", name, err)
	}
	return b, info, nil
}
