package store

import (
	"context"
	"errors"
	"io"

	"coffer/backup/pack"
	"coffer/seal"
)

// OpenRange reads the plain bytes of a pack from off up to end. If most of what is before
// end is wanted the pack is read as one stream from the beginning, for that is one request;
// but damage before off is not of the range, and it is read alone then.
func (s *Store) OpenRange(ctx context.Context, n pack.Name, size uint32, off, end int64) (io.ReadCloser, error) {
	if off > max(end/4, aheadBytes/4) || off > 0 && s.opened(n) {
		return s.openAlone(ctx, n, size, off, end)
	}
	name := PackName(n)
	sealed, length := seal.SealedSize(int64(size)), int64(-1)
	if n := seal.SealedSize((end + seal.ChunkSize - 1) / seal.ChunkSize * seal.ChunkSize); n < sealed {
		length = n + 1 // all chunks up to end, whole, and the byte that says that none is the last
	}
	raw, err := s.Source(name, sealed)(ctx, 0, length)
	if err != nil {
		return nil, err
	}
	opened, err := seal.NewReader(raw, s.keys, name)
	if err != nil {
		raw.Close()
		return nil, err
	}
	body := &bothClosers{opened, raw}
	if _, err := io.CopyN(io.Discard, body, off); err != nil {
		body.Close()
		return s.openAlone(ctx, n, size, off, end)
	}
	return body, nil
}

func (s *Store) openAlone(ctx context.Context, n pack.Name, size uint32, off, end int64) (io.ReadCloser, error) {
	o, err := s.object(ctx, n, size)
	if err != nil {
		return nil, err
	}
	return o.NewReader(ctx, off, end-off)
}

// bothClosers closes a reader and what it reads from.
type bothClosers struct {
	io.ReadCloser
	under io.Closer
}

func (b *bothClosers) Close() error { return errors.Join(b.ReadCloser.Close(), b.under.Close()) }

// Segments reads segments of a pack, one after the other. It serves one goroutine.
type Segments struct {
	rec    *pack.Record
	body   io.ReadCloser
	skip   int64 // before the next segment
	next   int
	z      *pack.Decompressor
	stored []byte
	plain  []byte
}

// ReadSegments reads the segments of a pack from first up to end, which it leaves
// out. Close must be called.
func (s *Store) ReadSegments(ctx context.Context, rec *pack.Record, first, end int) (*Segments, error) {
	var off, last int64
	for i := range end {
		if i < first {
			off += int64(rec.Segments[i].Stored)
		}
		last += int64(rec.Segments[i].Stored)
	}
	body, err := s.OpenRange(ctx, rec.Name, rec.Size, off, last)
	if err != nil {
		return nil, Damaged(PackName(rec.Name), err)
	}
	return &Segments{rec: rec, body: body, next: first, z: pack.GetDecompressor()}, nil
}

// Next returns the next segment, decompressed and valid until the next call; its
// chunks are not verified. One that is not wanted is left out, and is nil.
func (r *Segments) Next(wanted bool) ([]byte, error) {
	seg := &r.rec.Segments[r.next]
	r.next++
	if !wanted {
		r.skip += int64(seg.Stored)
		return nil, nil
	}
	name := PackName(r.rec.Name)
	if _, err := io.CopyN(io.Discard, r.body, r.skip); err != nil {
		return nil, Damaged(name, NoEOF(err))
	}
	r.skip = 0
	if cap(r.stored) < int(seg.Stored) {
		r.stored = make([]byte, seg.Stored)
	}
	r.stored = r.stored[:seg.Stored]
	if _, err := io.ReadFull(r.body, r.stored); err != nil {
		return nil, Damaged(name, NoEOF(err))
	}
	if !seg.Compressed {
		return r.stored, nil
	}
	var err error
	if r.plain, err = r.z.Decompress(r.plain[:0], r.stored, seg.Plain()); err != nil {
		return nil, Damaged(name, err)
	}
	return r.plain, nil
}

// Close ends the reading.
func (r *Segments) Close() error {
	r.z.Put()
	return r.body.Close()
}
