package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// Lock has an S3 store keep objects: until the time is over nobody removes them,
// whatever keys he holds. The bucket must have been made with object lock; it
// keeps every version, so what is removed or replaced is hidden only.
type Lock struct {
	Mode   string // "governance" (who has a right of its own may remove it) or "compliance"; empty: no lock
	Days   int    // from the write, and from each Extend
	Prefix string // of the names that are locked
}

func (l Lock) check() error {
	if l.Mode != "" && l.Mode != "governance" && l.Mode != "compliance" || (l.Mode == "") != (l.Days == 0) || l.Days < 0 {
		return fmt.Errorf("lock %q for %d days, want governance or compliance, and days", l.Mode, l.Days)
	}
	return nil
}

func (l Lock) mode() minio.RetentionMode { return minio.RetentionMode(strings.ToUpper(l.Mode)) }

func (l Lock) until() time.Time { return time.Now().AddDate(0, 0, l.Days).UTC().Truncate(time.Second) }

// Locker is a Bucket that may lock its objects.
type Locker interface {
	// Locks tells whether objects of that name are locked when they are written.
	Locks(name string) bool

	// Extend locks the object anew, for as long as if it were written now, and
	// reports whether there was a need: not for what was written a short while ago,
	// as a list tells. That it is absent, or hidden, is ErrNotExist.
	Extend(ctx context.Context, name string, written time.Time) (bool, error)

	// Hidden counts what was removed or replaced below prefix and is still there.
	// The bucket's lifecycle rule frees it some time after its lock is over.
	Hidden(ctx context.Context, prefix string) (Hidden, error)
}

// Hidden is what only a list of all versions shows.
type Hidden struct {
	Objects int
	Bytes   int64
}

// Locks implements [Locker].
func (s *S3) Locks(name string) bool {
	return s.lock.Mode != "" && strings.HasPrefix(name, s.lock.Prefix)
}

// Extend implements [Locker].
func (s *S3) Extend(ctx context.Context, name string, written time.Time) (bool, error) {
	if !s.Locks(name) || time.Since(written) < time.Duration(s.lock.Days)*12*time.Hour { // half of it is left
		return false, nil
	}
	key, err := s.key(name)
	if err == nil {
		mode, until := s.lock.mode(), s.lock.until()
		err = s.do(ctx, "retain", always, func(ctx context.Context) error {
			return s.core.PutObjectRetention(ctx, s.bucket, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until})
		})
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.Code == minio.MethodNotAllowed { // it is a delete marker
		err = fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	if err != nil {
		return false, fmt.Errorf("locking %q: %w", name, err)
	}
	return true, nil
}

// removable returns the version to remove, so that its room becomes free; none,
// so that it is hidden, if it is locked.
func (s *S3) removable(ctx context.Context, key string) (version string, err error) {
	var found minio.ObjectInfo
	err = s.do(ctx, "head", always, func(ctx context.Context) error {
		found, err = s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
		return err
	})
	if err != nil {
		return "", err
	}
	until, err := time.Parse(time.RFC3339, found.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	held := strings.EqualFold(found.Metadata.Get("X-Amz-Object-Lock-Legal-Hold"), "ON")
	if held || err == nil && time.Now().Before(until) {
		return "", nil
	}
	return found.VersionID, nil
}

// Hidden implements [Locker].
func (s *S3) Hidden(ctx context.Context, prefix string) (Hidden, error) {
	var h Hidden
	if s.lock.Mode == "" {
		return h, nil
	}
	err := s.do(ctx, "list", always, func(ctx context.Context) error {
		h = Hidden{}
		for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, WithVersions: true}) {
			if o.Err != nil {
				return o.Err
			}
			if !o.IsLatest && !o.IsDeleteMarker {
				h.Objects++
				h.Bytes += o.Size
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return h, fmt.Errorf("listing versions of %q: %w", prefix, err)
	}
	return h, nil
}

// checkLock makes sure that the bucket has object lock.
func (s *S3) checkLock(ctx context.Context) error {
	err := s.do(ctx, "head", always, func(ctx context.Context) error {
		_, _, _, _, err := s.core.GetObjectLockConfig(ctx, s.bucket)
		return err
	})
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return fmt.Errorf("the bucket was made without object lock: %w", err)
	}
	return err
}
