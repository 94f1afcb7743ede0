package proxy

import (
	"context"
	"errors"
	"fmt"

	"coffer/seal"
	"coffer/upstream"
)

// rewrite changes attributes of a version in place: the envelope is sealed anew
// and the upstream copies the object onto itself with it, so no data moves. The
// version keeps its place among the others.
func (p *Proxy) rewrite(ctx context.Context, ix *index, f *found, alter func(*row) error) error {
	unlock, err := p.lockKey(ctx, f.at.bucket, f.at.key)
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.settle(ctx, ix, f.at); err != nil {
		return err
	}
	now, err := ix.version(f.at.bucket, f.at.key, f.row.versionID())
	if err != nil {
		return err
	}
	if now == nil {
		return errNoSuchKey
	}
	r := *now
	if err := alter(&r); err != nil {
		return err
	}
	parts, err := ix.parts(f.at.bucket, f.at.key, now)
	if err != nil {
		return err
	}
	if r.Envelope, err = ix.next(); err != nil {
		return err
	}
	meta, err := ix.envelope(f.at, &r, true)
	if errors.Is(err, seal.ErrTooLarge) {
		return errMetadataTooLarge.saying("The metadata and tags of the object are too large to be changed together.")
	}
	if err != nil {
		return err
	}
	return p.write(ctx, ix, f.at, r.Envelope, false, func(ctx context.Context) error {
		if err := p.isWhole(ctx, ix, f.at, now); err != nil {
			return err
		}
		_, err := p.bucket.Copy(ctx, f.at.name, f.at.name, upstream.PutOptions{Meta: meta})
		return err
	}, func(c *change) error {
		c.drop(f.at.bucket, f.at.key, now)
		c.put(f.at.bucket, f.at.key, &r, parts)
		return nil
	})
}

// isWhole refuses to copy what is not the object of r: the new envelope would
// vouch for it.
func (p *Proxy) isWhole(ctx context.Context, ix *index, at place, r *row) error {
	info, err := p.bucket.Head(ctx, at.name)
	if err != nil {
		return err
	}
	e, err := ix.openEnvelope(at, info)
	if err != nil {
		return err
	}
	if e.Object != r.Object || e.Generation != r.Envelope || info.Size != r.Sealed {
		return fmt.Errorf("copying: %w", errOther)
	}
	return nil
}
