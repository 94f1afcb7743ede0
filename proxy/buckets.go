package proxy

import (
	"context"
	"time"
)

// BucketInfo describes a bucket.
type BucketInfo struct {
	Name       string
	Created    time.Time
	Versioning string // "", "Enabled" or "Suspended"
	Lock       bool   // object lock is on
}

// Buckets lists the first limit buckets by name, without "snapshots". It fails
// while the key is locked.
func (p *Proxy) Buckets(ctx context.Context, limit int) (all []BucketInfo, err error) {
	ix, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	err = ix.scan([]byte{rowBucket}, nil, func(key []byte, value func(any) error) (bool, error) {
		if len(all) == limit {
			return false, nil
		}
		var b bucketRow
		if err := value(&b); err != nil {
			return false, err
		}
		all = append(all, BucketInfo{string(key[1:]), time.Unix(0, b.Created), b.Versioning, b.Lock})
		return true, nil
	})
	return all, err
}
