package backup

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

// treeChunk stores an encoded directory, or a list of ids, unless it is known.
func (s *store) treeChunk(id chunk.ID, node []byte) error {
	if !s.claim(id) {
		return nil
	}
	s.added.Add(int64(len(node)))
	t := &s.trees
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.raw) > 0 && len(t.raw)+len(node) > s.r.config.Segment {
		t.compress()
		if t.bytes >= treePackSize {
			if err := t.ship(s); err != nil {
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
func (t *treeBuffer) ship(s *store) error {
	ready := t.ready
	t.ready, t.bytes = nil, 0
	if s.dry {
		return nil
	}
	p, err := s.take()
	if err != nil {
		return err
	}
	for _, x := range ready {
		if err := p.add(x.seg, x.body); err != nil {
			return err
		}
	}
	return s.ship(p)
}

// flush adds what is left to the open pack of data if there is room.
func (t *treeBuffer) flush(s *store) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.compress()
	s.mu.Lock()
	room := s.cur == nil || s.cur.size+t.bytes <= s.r.config.PackSize
	s.mu.Unlock()
	if !room {
		return t.ship(s)
	}
	for _, x := range t.ready {
		if err := s.append(x.seg, x.body); err != nil {
			return err
		}
	}
	t.ready, t.bytes = nil, 0
	return nil
}
