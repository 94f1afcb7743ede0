package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"coffer/seal"
	"coffer/upstream"
)

// RewrapReport says what a rekey of the gateway's objects did.
type RewrapReport struct {
	Objects int      `json:"objects"` // whose data keys were sealed anew
	Present int      `json:"present"` // under the new key already
	Foreign []string `json:"foreign"` // upstream names that neither key opens: left as they are
}

// Rekey seals the data keys and names of all objects of the gateway anew, from old
// keys to new ones of the same store. The storage copies each object under its new
// name with a new envelope, so no data moves: who had the old key and the headers of
// objects still opens those bytes. An object under the new key stays, so a run that
// was interrupted goes on. No gateway may run meanwhile, and its index must be
// removed afterwards. names is as in [Config].
func Rekey(ctx context.Context, b Bucket, names string, from, to *seal.Keys) (RewrapReport, error) {
	k := &rekeyer{p: &Proxy{bucket: b, clear: names == "clear"}, from: from, to: to}
	var list []upstream.Info
	if err := b.List(ctx, upstreamPrefix, "", func(i upstream.Info) error { list = append(list, i); return nil }); err != nil {
		return k.rep, fmt.Errorf("sealing the gateway's objects under the new key: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelInspect)
	for _, i := range list {
		g.Go(func() error {
			done, err := k.object(gctx, i.Name)
			k.mu.Lock()
			defer k.mu.Unlock()
			switch {
			case errors.Is(err, upstream.ErrNotExist): // an earlier run has moved it
			case errors.Is(err, seal.ErrCorrupt), errors.Is(err, seal.ErrKey):
				k.rep.Foreign = append(k.rep.Foreign, i.Name)
			case err != nil:
				return fmt.Errorf("%s: %w", i.Name, err)
			case done:
				k.rep.Objects++
			default:
				k.rep.Present++
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return k.rep, fmt.Errorf("sealing the gateway's objects under the new key: %w", err)
	}
	return k.rep, nil
}

type rekeyer struct {
	p        *Proxy
	from, to *seal.Keys
	mu       sync.Mutex
	rep      RewrapReport
}

// object seals the key of one upstream object anew; false if that was done before.
func (k *rekeyer) object(ctx context.Context, name string) (bool, error) {
	info, err := k.p.bucket.Head(ctx, name)
	if err != nil {
		return false, err
	}
	if _, _, err := k.find(k.to, name, info); err == nil {
		if u, err := k.p.parseUpstream(k.to, name); err != nil || !u.isRow {
			return false, err
		}
		// A row of a bucket with a clear name: the name does not tell the key.
		if _, err := k.row(ctx, k.to, name); err == nil {
			return false, nil
		}
	}
	at, e, err := k.find(k.from, name, info)
	if err != nil {
		return false, err
	}
	if e == nil {
		return true, k.bucketRow(ctx, at)
	}
	key, err := k.key(ctx, name, e)
	if err == nil {
		key, err = key.Rewrap(k.to, "")
	}
	if err != nil {
		return false, err
	}
	e.Header = key.Header()
	meta, err := k.to.SealEnvelope(at.bucket, at.key, *e)
	if err != nil {
		return false, err
	}
	next, err := k.p.objectName(k.to, at.bucket, at.key, at.version)
	if err != nil {
		return false, err
	}
	if _, err := k.p.bucket.Copy(ctx, next, name, upstream.PutOptions{Meta: map[string]string{envelopeKey: meta}}); err != nil {
		return false, err
	}
	return true, k.remove(ctx, name, next)
}

// find opens the name and the envelope of an object; the row of a bucket has none.
func (k *rekeyer) find(keys *seal.Keys, name string, info upstream.Info) (place, *seal.Envelope, error) {
	u, err := k.p.parseUpstream(keys, name)
	at := place{u.bucket, u.key, u.version, name}
	if err != nil || u.isRow {
		return at, nil, err
	}
	if u.sealed != "" {
		if at.key, _, err = keys.OpenLongName(u.bucket, u.sealed, info.Meta[envelopeKey]); err != nil {
			return at, nil, err
		}
	}
	e, err := (&index{keys: keys}).openEnvelope(at, info)
	return at, &e, err
}

// key opens the data key of an object: that of its envelope, or of its own header.
func (k *rekeyer) key(ctx context.Context, name string, e *seal.Envelope) (*seal.ObjectKey, error) {
	header := e.Header
	if header == nil {
		body, _, err := k.p.bucket.Get(ctx, name, 0, seal.ObjectHeaderSize)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		header = make([]byte, seal.ObjectHeaderSize)
		if _, err := io.ReadFull(body, header); err != nil {
			return nil, fmt.Errorf("header of an object: %w (%w)", seal.ErrCorrupt, err)
		}
	}
	return seal.OpenObjectKey(k.from, header, "")
}

// row reads the sealed row of a bucket.
func (k *rekeyer) row(ctx context.Context, keys *seal.Keys, name string) ([]byte, error) {
	body, _, err := k.p.bucket.Get(ctx, name, 0, maxBucketRow)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sealed, err := io.ReadAll(io.LimitReader(body, maxBucketRow))
	if err != nil {
		return nil, err
	}
	return keys.Open(name, sealed)
}

// bucketRow seals the row of a bucket anew.
func (k *rekeyer) bucketRow(ctx context.Context, at place) error {
	plain, err := k.row(ctx, k.from, at.name)
	if err != nil {
		return err
	}
	folder, err := k.p.bucketFolder(k.to, at.bucket)
	if err != nil {
		return err
	}
	next := folder + bucketObject
	sealed := k.to.Seal(next, plain)
	if _, err := k.p.bucket.Put(ctx, next, bytes.NewReader(sealed), int64(len(sealed)), upstream.PutOptions{}); err != nil {
		return err
	}
	return k.remove(ctx, at.name, next)
}

// remove removes what lies under its new name now.
func (k *rekeyer) remove(ctx context.Context, name, next string) error {
	if name == next {
		return nil
	}
	return k.p.bucket.Delete(ctx, name)
}
