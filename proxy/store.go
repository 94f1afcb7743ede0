package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"syscall"
	"time"

	"coffer/seal"
	"coffer/upstream"
)

// Attributes of coffer's own among the headers of a record or an envelope.
const (
	ownPrefix     = "x-coffer-"
	ownGeneration = "x-coffer-generation" // record, envelope: of the moment it became visible, when not the envelope's
	ownVersion    = "x-coffer-version"    // envelope: the version that it is bound to
	ownModified   = "x-coffer-modified"   // envelope: ns since 1970, when not the record's
	ownRetention  = "x-coffer-retention"  // envelope: "MODE SECONDS"
	ownHold       = "x-coffer-hold"       // envelope: "ON" or "OFF"
)

const versionIDSize = 32

// newVersion makes a version id.
func newVersion() string {
	var b [versionIDSize / 2]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// storeFailure translates what the upstream and package seal say, nil if it is
// none of theirs. A corrupt object is not 5xx: clients would ask again, and the
// answer would be the same.
func storeFailure(err error) *failure {
	switch {
	case errors.Is(err, seal.ErrCorrupt), errors.Is(err, seal.ErrKey), errors.Is(err, seal.ErrVersion),
		errors.Is(err, upstream.ErrDamaged), errors.Is(err, upstream.ErrNotExist):
		return errCorrupt.because(err)
	case errors.Is(err, upstream.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return errSlowDown.because(err)
	case errors.Is(err, upstream.ErrFull):
		return errFull.because(err)
	case errors.Is(err, syscall.ENOSPC):
		return errStateFull.because(err)
	case errors.Is(err, upstream.ErrExists):
		return errPreconditionFailed.because(err)
	case errors.Is(err, seal.ErrTooLarge):
		return errMetadataTooLarge.because(err)
	}
	return nil
}

// place is one version of one object and where it lies.
type place struct {
	bucket, key, version string // version "" is the null version
	name                 string // upstream
}

func (p *Proxy) place(ix *index, bucket, key, version string) (place, error) {
	name, err := p.objectName(ix.keys, bucket, key, version)
	return place{bucket, key, version, name}, err
}

// envelope seals what binds r to its place. replaced says that the attributes in
// r are not those in the object's footer.
func (ix *index) envelope(at place, r *row, replaced bool) (map[string]string, error) {
	e := seal.Envelope{Object: r.Object, Generation: r.Envelope, Deleted: r.Marker, Headers: make(map[string]string)}
	if replaced {
		e.Replaced, e.Meta, e.Tags = true, r.Meta, r.Tags
		maps.Copy(e.Headers, r.Headers)
		e.Headers[ownModified] = strconv.FormatInt(r.Modified, 10)
		e.Headers[ownGeneration] = strconv.FormatUint(r.Generation, 10)
	}
	if r.Rewrapped {
		e.Header = r.Header
	}
	if at.version != "" {
		e.Headers[ownVersion] = at.version
	}
	if r.Retention != nil {
		e.Headers[ownRetention] = fmt.Sprintf("%s %d", r.Retention.Mode, r.Retention.Until)
	}
	if r.Hold != "" {
		e.Headers[ownHold] = r.Hold
	}
	sealed, err := ix.keys.SealEnvelope(at.bucket, at.key, e)
	if err != nil {
		return nil, err
	}
	return map[string]string{envelopeKey: sealed}, nil
}

// openEnvelope opens the envelope of the object at a place.
func (ix *index) openEnvelope(at place, info upstream.Info) (seal.Envelope, error) {
	e, err := ix.keys.OpenEnvelope(at.bucket, at.key, info.Meta[envelopeKey])
	if err == nil && e.Headers[ownVersion] != at.version {
		err = fmt.Errorf("envelope of version %q: %w", e.Headers[ownVersion], seal.ErrCorrupt)
	}
	if err != nil {
		return e, fmt.Errorf("envelope: %w", err)
	}
	return e, nil
}

// errOther means that the upstream object is whole, but another one than the
// index expects.
var errOther = fmt.Errorf("the storage holds another object than was last written: %w", seal.ErrCorrupt)

// source fetches bytes of the upstream object of r, and holds each answer
// against what the index knows of it.
func (p *Proxy) source(ix *index, at place, r *row) seal.Source {
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, info, err := p.bucket.Get(ctx, at.name, off, n)
		if err != nil {
			return nil, err
		}
		e, err := ix.openEnvelope(at, info)
		if err == nil && (e.Object != r.Object || e.Generation != r.Envelope || e.Deleted != r.Marker || info.Size != r.Sealed) {
			err = errOther
		}
		if err != nil {
			return nil, errors.Join(err, body.Close())
		}
		return body, nil
	}
}

// openRow prepares reading the object of r. Nothing is fetched.
func (p *Proxy) openRow(ix *index, at place, r *row) (*seal.Object, error) {
	key, err := seal.OpenObjectKey(ix.keys, r.Header, "")
	if err != nil {
		return nil, err
	}
	parts, err := ix.parts(at.bucket, at.key, r)
	if err != nil {
		return nil, err
	}
	return key.Object(p.source(ix, at, r), parts, seal.Record{})
}

// inspect reads an upstream object as one would that knows nothing of it, and
// returns its row. upstream.ErrNotExist means that nothing is there.
func (p *Proxy) inspect(ctx context.Context, ix *index, at place) (*row, []seal.Part, error) {
	info, err := p.bucket.Head(ctx, at.name)
	if err != nil {
		return nil, nil, err
	}
	e, err := ix.openEnvelope(at, info)
	if err != nil {
		return nil, nil, err
	}
	return inspectWith(ctx, ix, at, info, p.unchanged(at.name, info), e)
}

// unchanged fetches bytes of an upstream object as long as it is that of info.
func (p *Proxy) unchanged(name string, info upstream.Info) seal.Source {
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, again, err := p.bucket.Get(ctx, name, off, n)
		if err == nil && again.ETag != info.ETag {
			return nil, errors.Join(fmt.Errorf("the object changed while it was read: %w", upstream.ErrUnavailable), body.Close())
		}
		return body, err
	}
}

func inspectWith(ctx context.Context, ix *index, at place, info upstream.Info, src seal.Source, e seal.Envelope) (*row, []seal.Part, error) {
	object, err := openWith(ctx, src, info.Size, ix.keys, e.Header)
	if err != nil {
		return nil, nil, err
	}
	if object.Key().ID() != e.Object {
		return nil, nil, errOther
	}
	r, err := rowOf(at, info, e, object)
	if err != nil {
		return nil, nil, err
	}
	if r.PartCount == 0 {
		return r, nil, nil
	}
	return r, object.Parts(), nil
}

// openWith opens an object with the header of its envelope, if that has one.
func openWith(ctx context.Context, src seal.Source, size int64, keys *seal.Keys, header []byte) (*seal.Object, error) {
	if header == nil {
		return seal.OpenObject(ctx, src, size, keys, "")
	}
	key, err := seal.OpenObjectKey(keys, header, "")
	if err != nil {
		return nil, err
	}
	return key.OpenObject(ctx, src, size)
}

// rowOf makes the row of an object from what lies upstream.
func rowOf(at place, info upstream.Info, e seal.Envelope, object *seal.Object) (*row, error) {
	rec := object.Record()
	r := &row{
		Generation: e.Generation, Envelope: e.Generation, Version: at.version, Marker: e.Deleted,
		Size: object.Size(), ETag: rec.ETag, Modified: rec.Created.UnixNano(), Object: e.Object, Sealed: info.Size,
		Header: object.Key().Header(), Rewrapped: e.Header != nil, Checksums: rec.Checksums, Headers: rec.Headers, Meta: rec.Meta, Tags: rec.Tags,
	}
	if parts := object.Parts(); parts[0].Number == 0 {
		r.Salt = parts[0].Salt
	} else {
		r.PartCount = len(parts)
	}
	generation := rec.Headers[ownGeneration]
	if e.Replaced {
		r.Headers, r.Meta, r.Tags = e.Headers, e.Meta, e.Tags
		modified, err := strconv.ParseInt(e.Headers[ownModified], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("modified %q: %w", e.Headers[ownModified], seal.ErrCorrupt)
		}
		r.Modified, generation = modified, e.Headers[ownGeneration]
	}
	if generation != "" {
		n, err := strconv.ParseUint(generation, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("generation %q: %w", generation, seal.ErrCorrupt)
		}
		r.Generation = n
	}
	if s := e.Headers[ownRetention]; s != "" {
		r.Retention = new(retention)
		if _, err := fmt.Sscanf(s, "%s %d", &r.Retention.Mode, &r.Retention.Until); err != nil {
			return nil, fmt.Errorf("retention %q: %w", s, seal.ErrCorrupt)
		}
	}
	r.Hold = e.Headers[ownHold]
	r.Headers = withoutOwn(r.Headers)
	return r, nil
}

// newer reports whether r was written after old, or changed after it.
func (r *row) newer(old *row) bool {
	return r.Generation > old.Generation || r.Generation == old.Generation && r.Envelope > old.Envelope
}

// withoutOwn drops coffer's own attributes.
func withoutOwn(headers map[string]string) map[string]string {
	out := maps.Clone(headers)
	maps.DeleteFunc(out, func(name, _ string) bool { return strings.HasPrefix(name, ownPrefix) })
	return out
}

// record is what goes into the footer of the object of r.
func (r *row) record(at place) seal.Record {
	headers := maps.Clone(r.Headers)
	if r.Generation != r.Envelope {
		if headers == nil {
			headers = make(map[string]string, 1)
		}
		headers[ownGeneration] = fmt.Sprintf("%020d", r.Generation) // of one length: streamSize counts on it
	}
	return seal.Record{
		ETag: r.ETag, Checksums: r.Checksums, Headers: headers, Meta: r.Meta, Tags: r.Tags,
		Created: r.modified(), Writer: "coffer gateway", Bucket: at.bucket, Key: at.key,
	}
}

// begin notes, durably, that the upstream object at a place is about to change.
func (ix *index) begin(at place, generation uint64, isDelete bool) error {
	c := ix.change()
	c.set(intentKey(at.name), intent{Generation: generation, Bucket: at.bucket, Key: at.key, Version: at.version, Delete: isDelete})
	return c.commit()
}

// unsure keeps an intent whose write failed: the upstream may have taken it.
func (ix *index) unsure(at place, generation uint64, isDelete bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.intents[at.name] = intent{Generation: generation, Bucket: at.bucket, Key: at.key, Version: at.version, Delete: isDelete}
}

// unsettled returns the intent that waits at an upstream name.
func (ix *index) unsettled(name string) (intent, bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	in, ok := ix.intents[name]
	return in, ok
}

// settle finds out how an unfinished write at a place ended, and makes the index
// say so. The caller holds the lock of the key.
func (p *Proxy) settle(ctx context.Context, ix *index, at place) error {
	in, ok := ix.unsettled(at.name)
	if !ok {
		return nil
	}
	r, parts, err := p.inspect(ctx, ix, at)
	gone := errors.Is(err, upstream.ErrNotExist)
	if err != nil && !gone && !errors.Is(err, seal.ErrCorrupt) {
		return fmt.Errorf("settling an unfinished write: %w", err)
	}
	old, findErr := ix.version(at.bucket, at.key, (&row{Version: at.version}).versionID())
	if findErr != nil {
		return findErr
	}
	c := ix.change()
	switch {
	case gone && in.Delete && old != nil:
		c.drop(at.bucket, at.key, old)
	case err == nil && (old != nil && r.newer(old) || old == nil && !in.Delete && r.Generation >= in.Generation):
		ix.seen(r.Generation)
		if old != nil {
			c.drop(at.bucket, at.key, old)
		}
		c.put(at.bucket, at.key, r, parts)
	}
	return p.settled(ix, at.name, c)
}

// write runs do, which changes the upstream object at a place, between the
// intent and the commit of the rows that keep sets. The caller holds the lock of
// the key and has settled the place. Once do has been called, its result is
// committed even if the client is gone.
func (p *Proxy) write(ctx context.Context, ix *index, at place, generation uint64, isDelete bool, do func(context.Context) error, keep func(*change) error) error {
	if err := ix.begin(at, generation, isDelete); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		ix.unsure(at, generation, isDelete)
		p.settleSoon(ctx, ix, at)
		return err
	}
	c := ix.change()
	if err := keep(c); err != nil {
		ix.unsure(at, generation, isDelete)
		return err
	}
	c.delete(intentKey(at.name))
	return c.commit()
}

// settleSoon tries once to settle what has just failed; what does not succeed
// now is settled before the name is used again.
func (p *Proxy) settleSoon(ctx context.Context, ix *index, at place) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = p.settle(ctx, ix, at) // the intent stays
}
