package store

import (
	"context"
	"fmt"

	"coffer/backup/chunk"
	"coffer/backup/tree"
)

// Node reads and parses one node of a directory.
func (s *Store) Node(ctx context.Context, id chunk.ID) ([]tree.Entry, []tree.Branch, error) {
	data, err := s.Chunk(ctx, id, true)
	if err != nil {
		return nil, nil, err
	}
	entries, leaves, err := tree.Decode(data)
	if err != nil {
		loc, _ := s.Lookup(id)
		return nil, nil, fmt.Errorf("reading %s: chunk %s: %w: %w", PackName(loc.Name), id, ErrCorrupt, err)
	}
	return entries, leaves, nil
}

// Dir reads a whole directory.
func (s *Store) Dir(ctx context.Context, id chunk.ID) ([]tree.Entry, error) {
	entries, leaves, err := s.Node(ctx, id)
	for _, l := range leaves {
		more, deeper, err := s.Node(ctx, l.ID)
		if err != nil {
			return nil, err
		}
		if deeper != nil {
			return nil, fmt.Errorf("directory %s: branch below a branch: %w", id, ErrCorrupt)
		}
		entries = append(entries, more...)
	}
	return entries, err
}

// FileIDs returns the ids of a file's data.
func (s *Store) FileIDs(ctx context.Context, e *tree.Entry) ([]chunk.ID, error) {
	if e.Flags&tree.Indirect == 0 {
		return e.Content, nil
	}
	var ids []chunk.ID
	for _, id := range e.Content {
		data, err := s.Chunk(ctx, id, true)
		if err != nil {
			return nil, err
		}
		part, err := tree.IDs(data)
		if err != nil {
			return nil, fmt.Errorf("list of chunks %s: %w: %w", id, ErrCorrupt, err)
		}
		ids = append(ids, part...)
	}
	return ids, nil
}

// Child finds a name in a directory, reading only the leaf that may have it.
func (s *Store) Child(ctx context.Context, dir chunk.ID, name string) (tree.Entry, error) {
	entries, leaves, err := s.Node(ctx, dir)
	if err != nil {
		return tree.Entry{}, err
	}
	if leaves != nil {
		n := 0
		for n+1 < len(leaves) && leaves[n+1].First <= name {
			n++
		}
		if entries, _, err = s.Node(ctx, leaves[n].ID); err != nil {
			return tree.Entry{}, err
		}
	}
	for i := range entries {
		if entries[i].Name == name {
			return entries[i], nil
		}
	}
	return tree.Entry{}, ErrNotExist
}

// Span is a part of a file: a chunk of data, or a hole.
type Span struct {
	Off, Len int64
	ID       chunk.ID
	Hole     bool
}

// Spans lists the parts of a file in their order.
func (s *Store) Spans(ctx context.Context, e *tree.Entry) ([]Span, error) {
	ids, err := s.FileIDs(ctx, e)
	if err != nil {
		return nil, err
	}
	out := make([]Span, 0, len(ids)+len(e.Holes))
	holes := e.Holes
	var at int64
	for _, id := range ids {
		for len(holes) > 0 && holes[0].Off == at {
			out = append(out, Span{Off: at, Len: holes[0].Len, Hole: true})
			at, holes = at+holes[0].Len, holes[1:]
		}
		loc, ok := s.Lookup(id)
		if !ok {
			if err := s.Refresh(ctx); err != nil {
				return nil, err
			}
			if loc, ok = s.Lookup(id); !ok {
				return nil, s.Missing(id)
			}
		}
		out = append(out, Span{Off: at, Len: int64(loc.Len), ID: id})
		at += int64(loc.Len)
	}
	for len(holes) > 0 && holes[0].Off == at {
		out = append(out, Span{Off: at, Len: holes[0].Len, Hole: true})
		at, holes = at+holes[0].Len, holes[1:]
	}
	if at != e.Size || len(holes) > 0 {
		return nil, fmt.Errorf("content of %d bytes, want %d: %w", at, e.Size, ErrCorrupt)
	}
	return out, nil
}
