package store

import (
	"sync"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// treePackSize is how many bytes of compressed directories make a pack of their
// own. They lie together, so that who reads all directories fetches few packs.
const treePackSize = 8 << 20

// treeBuffer gathers directories. They are compressed by whoever completes one:
// workers do, and would wait for themselves if directories were jobs.
type treeBuffer struct {
	mu    sync.Mutex
	z     *pack.Compressor
	seg   pack.Segment // the one that is filled
	raw   []byte
	ready []treeSegment // compressed
	bytes int           // in ready
}

type treeSegment struct {
	seg  pack.Segment
	body []byte
}

// Tree stores an encoded directory, or a list of ids, unless it is known.
func (w *Writer) Tree(id chunk.ID, node []byte) error {
	if !w.claim(id) {
		return nil
	}
	w.added.Add(int64(len(node)))
	t := &w.trees
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.raw) > 0 && len(t.raw)+len(node) > w.s.format.Segment {
		t.compress()
		if t.bytes >= treePackSize {
			if err := t.ship(w); err != nil {
				return err
			}
		}
	}
	t.raw = append(t.raw, node...)
	t.seg.Chunks = append(t.seg.Chunks, pack.Chunk{ID: id, Len: uint32(len(node))})
	return nil
}

// compress ends the segment that is filled.
func (t *treeBuffer) compress() {
	if len(t.seg.Chunks) == 0 {
		return
	}
	seg := t.seg
	seg.Tree = true
	body, compressed := t.z.Compress(t.raw)
	seg.Compressed, seg.Stored = compressed, uint32(len(body))
	t.ready = append(t.ready, treeSegment{seg, append([]byte(nil), body...)})
	t.bytes += len(body)
	t.seg, t.raw = pack.Segment{}, t.raw[:0]
}

// ship makes a pack of what is ready.
func (t *treeBuffer) ship(w *Writer) error {
	ready := t.ready
	t.ready, t.bytes = nil, 0
	if w.dry {
		return nil
	}
	p, err := w.take()
	if err != nil {
		return err
	}
	for _, x := range ready {
		if err := p.add(x.seg, x.body); err != nil {
			return err
		}
	}
	return w.ship(p)
}

// flush adds what is left to the open pack of data if there is room.
func (t *treeBuffer) flush(w *Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.compress()
	w.mu.Lock()
	room := w.cur == nil || w.cur.size+t.bytes <= w.s.format.PackSize
	w.mu.Unlock()
	if !room {
		return t.ship(w)
	}
	for _, x := range t.ready {
		if err := w.append(x.seg, x.body); err != nil {
			return err
		}
	}
	t.ready, t.bytes = nil, 0
	return nil
}
