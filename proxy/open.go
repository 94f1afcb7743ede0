package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"coffer/seal"
	"coffer/upstream"
)

const (
	parallelInspect = 16
	settleTimeout   = 30 * time.Second
)

// open returns the index while the keyring is unlocked. The first call opens it,
// and builds it from the upstream if it is new.
func (p *Proxy) open(ctx context.Context) (*index, error) {
	keys, err := p.keys.Keys()
	if err != nil {
		return nil, errServiceUnavailable.saying("The backup key is locked.").because(err)
	}
	select {
	case p.opening <- struct{}{}:
		defer func() { <-p.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.closed {
		return nil, errServiceUnavailable.saying("The gateway is shutting down.")
	}
	if p.index != nil {
		if p.index.keys.ID() != keys.ID() {
			return nil, errServiceUnavailable.saying("The backup key has changed; restart the gateway.")
		}
		return p.index, nil
	}
	ix, fresh, err := openIndex(p.dir, keys)
	if err != nil {
		return nil, err
	}
	if fresh {
		start := time.Now()
		n, err := p.rebuild(ctx, ix)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("building the index from the upstream: %w", err), ix.close())
		}
		p.log.Info("index built from the upstream", zap.Int("objects", n), zap.Duration("took", time.Since(start)))
	}
	if err := p.noteLeftovers(); err != nil {
		return nil, errors.Join(err, ix.close())
	}
	p.index = ix
	return ix, nil
}

// close closes the index for good.
func (p *Proxy) close() error {
	p.life.Lock()
	defer p.life.Unlock()
	p.opening <- struct{}{}
	defer func() { <-p.opening }()
	p.closed = true
	if p.index == nil {
		return nil
	}
	ix := p.index
	p.index = nil
	return ix.close()
}

// rebuild fills an index from what lies upstream, with the key alone. Of several
// objects for one name and version there is only one upstream, so nothing has to
// be chosen. An object that does not open is counted and logged, and left out of
// the index; it stays where it is.
func (p *Proxy) rebuild(ctx context.Context, ix *index) (int, error) {
	// An earlier attempt may have left rows.
	for _, kind := range []byte{rowBucket, rowObject, rowParts, rowUpload, rowPart, rowDone, rowIntent} {
		if err := ix.db.DeleteRange([]byte{kind}, []byte{kind + 1}, pebble.Sync); err != nil {
			return 0, fmt.Errorf("clearing the index: %w", err)
		}
	}
	var g errgroup.Group
	g.SetLimit(parallelInspect)
	count, bad := 0, 0
	err := p.bucket.List(ctx, upstreamPrefix, "", func(info upstream.Info) error {
		count++
		u, err := p.parseUpstream(ix.keys, info.Name)
		if err != nil {
			bad++
			return nil
		}
		g.Go(func() error {
			err := p.restoreRow(ctx, ix, info, u)
			if errors.Is(err, seal.ErrCorrupt) || errors.Is(err, seal.ErrKey) || errors.Is(err, upstream.ErrNotExist) {
				p.metrics.corrupt.Inc()
				p.log.Warn("an object upstream does not open and is left out of the index", zap.String("name", info.Name), zap.Error(err))
				return nil
			}
			return err
		})
		return ctx.Err()
	})
	if err = errors.Join(err, g.Wait()); err != nil {
		return count, err
	}
	if bad > 0 {
		p.log.Warn("names upstream that are not the gateway's", zap.Int("count", bad))
	}
	next, err := ix.next()
	if err != nil {
		return count, err
	}
	ix.seen(next)
	return count, ix.built()
}

// restoreRow adds the row of one upstream object. Rows are not synced one by one:
// the index counts only once it is built.
func (p *Proxy) restoreRow(ctx context.Context, ix *index, listed upstream.Info, u upstreamName) error {
	if u.isRow {
		return p.restoreBucket(ctx, ix, listed.Name, u.bucket)
	}
	at := place{u.bucket, u.key, u.version, listed.Name}
	info, src, err := p.lookAt(ctx, listed)
	if err != nil {
		return err
	}
	if u.sealed != "" {
		if at.key, _, err = ix.keys.OpenLongName(u.bucket, u.sealed, info.Meta[envelopeKey]); err != nil {
			return err
		}
	}
	e, err := ix.openEnvelope(at, info)
	if err != nil {
		return err
	}
	r, parts, err := inspectWith(ctx, ix, at, info, src, e)
	if err != nil {
		return err
	}
	ix.seen(max(r.Generation, r.Envelope))
	c := ix.change()
	c.put(at.bucket, at.key, r, parts)
	return c.finish(pebble.NoSync)
}

// lookAt describes an object that was listed and gives its bytes. A small one is
// fetched at once: a rebuild of a million of them is a million requests, not two.
func (p *Proxy) lookAt(ctx context.Context, listed upstream.Info) (upstream.Info, seal.Source, error) {
	if listed.Size > smallSealed {
		info, err := p.bucket.Head(ctx, listed.Name)
		return info, p.unchanged(listed.Name, info), err
	}
	body, info, err := p.bucket.Get(ctx, listed.Name, 0, smallSealed)
	if err != nil {
		return info, nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return info, nil, err
	}
	if info.Size != int64(len(data)) { // it has grown since the list
		return info, p.unchanged(listed.Name, info), nil
	}
	return info, func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
	}, nil
}

func (p *Proxy) restoreBucket(ctx context.Context, ix *index, name, bucket string) error {
	b, err := p.readBucket(ctx, ix, name)
	if err != nil {
		return err
	}
	ix.seen(b.Generation)
	c := ix.change()
	c.set(bucketKey(bucket), b)
	return c.finish(pebble.NoSync)
}

// readBucket reads the row of a bucket from the upstream.
func (p *Proxy) readBucket(ctx context.Context, ix *index, name string) (*bucketRow, error) {
	body, _, err := p.bucket.Get(ctx, name, 0, maxBucketRow)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var sealed bytes.Buffer
	if _, err := sealed.ReadFrom(body); err != nil {
		return nil, err
	}
	plain, err := ix.keys.Open(name, sealed.Bytes())
	if err != nil {
		return nil, err
	}
	var b bucketRow
	if err := decMode.Unmarshal(plain, &b); err != nil {
		return nil, fmt.Errorf("row of a bucket: %w", seal.ErrCorrupt)
	}
	return &b, nil
}

// settleBucket is settle for the row of a bucket.
func (p *Proxy) settleBucket(ctx context.Context, ix *index, bucket, name string) error {
	unlock, err := p.locks.lock(ctx, bucket)
	if err != nil {
		return err
	}
	defer unlock()
	if _, ok := ix.unsettled(name); !ok {
		return nil
	}
	b, err := p.readBucket(ctx, ix, name)
	c := ix.change()
	switch {
	case err == nil:
		c.set(bucketKey(bucket), b)
	case errors.Is(err, upstream.ErrNotExist):
		c.delete(bucketKey(bucket))
	case !errors.Is(err, seal.ErrCorrupt):
		return err
	}
	return p.settled(ix, name, c)
}

// settled commits what became of an unfinished write and forgets it.
func (p *Proxy) settled(ix *index, name string, c *change) error {
	c.delete(intentKey(name))
	if err := c.commit(); err != nil {
		return err
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	delete(ix.intents, name)
	return nil
}

// settleKey settles the unfinished writes of one key: mostly there is none.
func (p *Proxy) settleKey(ctx context.Context, ix *index, bucket, key string) error {
	return p.settleSome(ctx, ix, func(in intent) bool { return in.Bucket == bucket && in.Key == key })
}

// settleAll settles every unfinished write.
func (p *Proxy) settleAll(ctx context.Context, ix *index) error {
	return p.settleSome(ctx, ix, func(intent) bool { return true })
}

func (p *Proxy) settleSome(ctx context.Context, ix *index, some func(intent) bool) error {
	waiting := make(map[string]intent)
	ix.mu.Lock()
	for name, in := range ix.intents {
		if some(in) {
			waiting[name] = in
		}
	}
	ix.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		in := waiting[name]
		if in.Key == "" {
			if err := p.settleBucket(ctx, ix, in.Bucket, name); err != nil {
				return err
			}
			continue
		}
		unlock, err := p.lockKey(ctx, in.Bucket, in.Key)
		if err != nil {
			return err
		}
		err = p.settle(ctx, ix, place{in.Bucket, in.Key, in.Version, name})
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// tidy settles what is unsettled and ends what was forgotten.
func (p *Proxy) tidy(ctx context.Context) {
	ix, err := p.open(ctx)
	if err != nil {
		return
	}
	if err := p.settleAll(ctx, ix); err != nil && ctx.Err() == nil {
		p.log.Warn("unfinished writes are not settled yet", zap.Error(err))
	}
	if err := p.expireUploads(ctx, ix); err != nil && ctx.Err() == nil {
		p.log.Warn("forgotten uploads are not ended yet", zap.Error(err))
	}
	if err := p.sweepUploads(ctx); err != nil && ctx.Err() == nil {
		p.log.Warn("uploads that a crash left upstream are not ended yet", zap.Error(err))
	}
}
