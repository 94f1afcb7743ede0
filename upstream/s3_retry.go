package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/zap"
)

// errRange is a range that lies outside of the object.
var errRange = errors.New("range is outside of the object")

// do calls try until it succeeds, fails for good, or has failed too often. again
// tells whether after err, which is ErrUnavailable, another try can do no harm.
func (s *S3) do(ctx context.Context, kind string, again func(err error) bool, try func(context.Context) error) error {
	ctx = context.WithValue(ctx, kindKey{}, kind)
	for n := 0; ; n++ {
		err := s3Error(ctx, try(ctx))
		if err == nil || n >= s.retries || !errors.Is(err, ErrUnavailable) || !again(err) {
			return err
		}
		s.log.Debug("request failed, trying again", zap.String("kind", kind), zap.Int("tries", n+1), zap.Error(err))
		timer := time.NewTimer(backoff(n))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		}
	}
}

func always(error) bool { return true }

// noEffect tells whether the store cannot have acted on the request.
func noEffect(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	var answer minio.ErrorResponse
	return errors.As(err, &answer) && (answer.StatusCode == http.StatusTooManyRequests || strings.HasPrefix(answer.Code, "SlowDown"))
}

// backoff returns how long to wait after try n failed: something up to 200 ms,
// twice as much each time, at most 10 s.
func backoff(n int) time.Duration {
	return rand.N(min(200*time.Millisecond<<min(n, 10), 10*time.Second)) + time.Millisecond
}

// s3Error adds the sentinel that an error of a call stands for.
func s3Error(ctx context.Context, err error) error {
	var answer minio.ErrorResponse
	var own *bodyError
	switch {
	case err == nil, errors.Is(err, ErrDamaged), errors.Is(err, errNoBucket), errors.Is(err, errCallback):
		return err
	case errors.As(err, &own):
		return own
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &answer):
		if kind := answerKind(answer); kind != nil {
			return fmt.Errorf("%w: %w", kind, err)
		}
		return fmt.Errorf("storage answers %s: %w", answer.Code, err)
	case isUntrusted(err):
		return err
	case isNetwork(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// bodyError is an error of the body that the caller gave.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "reading the body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// answerKind returns the sentinel for an error that the store sent, or nil.
func answerKind(a minio.ErrorResponse) error {
	switch a.Code {
	case minio.NoSuchKey, minio.NoSuchUpload, "NoSuchVersion":
		return ErrNotExist
	case minio.NoSuchBucket:
		return errNoBucket
	case minio.PreconditionFailed, "ConditionalRequestConflict":
		return ErrExists
	case "InvalidRange":
		return errRange
	case "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "EntityTooLargeForQuota":
		return ErrFull
	case "RequestTimeout", "OperationAborted", "IncompleteBody", "XMinioServerNotInitialized":
		return ErrUnavailable
	}
	switch a.StatusCode {
	case http.StatusPreconditionFailed:
		return ErrExists
	case http.StatusRequestedRangeNotSatisfiable:
		return errRange
	case http.StatusInsufficientStorage:
		return ErrFull
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499, 520:
		return ErrUnavailable
	case http.StatusNotImplemented:
		return nil
	}
	if a.StatusCode >= 500 {
		return ErrUnavailable
	}
	return nil
}

// isDenied tells whether the key has not the right to what was asked.
func isDenied(err error) bool {
	var answer minio.ErrorResponse
	return errors.As(err, &answer) && answer.Code == minio.AccessDenied
}

// isUntrusted tells whether TLS failed in a way that no second try mends.
func isUntrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &record)
}

// isNetwork tells whether err comes from the way to the store. Package http
// wraps what happens there into a url.Error, the body of an answer aside.
func isNetwork(err error) bool {
	var u *url.Error
	var n net.Error
	return errors.As(err, &u) || errors.As(err, &n) || errors.Is(err, errIdle) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
