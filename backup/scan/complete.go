package scan

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"coffer/backup/chunk"
	"coffer/backup/tree"
)

// storeNode stores a node of a directory, and keeps it for the next run.
func (n *run) storeNode(node []byte, dev uint64) (chunk.ID, error) {
	id := n.st.Sum(node)
	if err := n.w.Tree(id, node); err != nil {
		return id, err
	}
	n.next.Add(id, dev, node)
	return id, nil
}

// complete encodes a directory of which all is known, and tells its parent.
func (n *run) complete(d *dirNode) error {
	if err := context.Cause(n.ctx); err != nil {
		return err
	}
	d.entries = slices.DeleteFunc(d.entries, func(e tree.Entry) bool { return e.Type == 0 })
	self := d.self()
	self.Size, self.Count = 0, uint64(len(d.entries))
	for i := range d.entries {
		e := &d.entries[i]
		switch e.Type {
		case tree.File:
			self.Size += e.Size
		case tree.Dir:
			self.Size += e.Size
			self.Count += e.Count
		}
	}
	id, err := tree.Encode(d.entries, func(b []byte) (chunk.ID, error) { return n.storeNode(b, d.dev) })
	if err != nil {
		return fmt.Errorf("directory %q: %w", d.path, err)
	}
	self.Subtree = id
	d.entries = nil
	if d.parent == nil {
		return nil
	}
	return d.parent.childDone()
}

// content collects the ids of the chunks of one attempt to read a file. The
// reader appends to ids without ever growing the slice, as workers hold pointers
// into it.
type content struct {
	n     *dirNode
	slot  int
	ids   []chunk.ID
	holes []tree.Hole
	left  atomic.Int32 // chunks without id, plus one until the reader is through
	valid bool         // the last attempt; set by the reader before it is through
}

func newContent(t task, most int) *content {
	c := &content{n: t.n, slot: t.slot, ids: make([]chunk.ID, 0, most)}
	c.left.Store(1)
	return c
}

// next returns where the id of the next chunk goes.
func (c *content) next() *chunk.ID {
	c.left.Add(1)
	c.ids = c.ids[:len(c.ids)+1]
	return &c.ids[len(c.ids)-1]
}

// ChunkDone is called once for each chunk, and once by the reader at the end.
func (c *content) ChunkDone() error {
	if c.left.Add(-1) > 0 || !c.valid {
		return nil
	}
	return c.n.run.fileDone(c)
}

// fileDone takes in the content of a file of which all ids are known.
func (n *run) fileDone(c *content) error {
	e := &c.n.entries[c.slot]
	e.Content, e.Holes = c.ids, c.holes
	if len(c.ids) > tree.DirectIDs {
		lists, err := tree.Lists(c.ids, func(b []byte) (chunk.ID, error) { return n.storeNode(b, 0) })
		if err != nil {
			return fmt.Errorf("file %q: %w", join(c.n.path, e.Name), err)
		}
		e.Content = lists
		e.Flags |= tree.Indirect
	}
	n.journal.File(join(c.n.path, e.Name), e)
	n.doneFiles.Add(1)
	n.doneBytes.Add(e.Size)
	return c.n.childDone()
}
