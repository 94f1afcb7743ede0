package store

import (
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sys/unix"
)

// region is memory for a pack, outside the heap: a hundred MiB of buffers on it
// would make the collector wait for as much garbage again. It is unmapped when
// nothing refers to it any more; a transport may still read a body after the
// request has failed, so nobody else can tell when.
type region struct {
	b       []byte
	cleanup runtime.Cleanup
}

// newRegion returns an empty region with room for n bytes.
func newRegion(n int) (*region, error) {
	g := &region{}
	return g, g.grow(n)
}

// grow moves what there is to memory for n bytes. Nobody may be reading.
func (g *region) grow(n int) error {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("reserving %d bytes for a pack: %w", n, err)
	}
	old := g.b
	g.b = append(mem[:0], old...)
	if old != nil {
		g.cleanup.Stop()
		unix.Munmap(old[:cap(old)])
	}
	g.cleanup = runtime.AddCleanup(g, func(mem []byte) { unix.Munmap(mem) }, mem)
	return nil
}

// Write appends.
func (g *region) Write(p []byte) (int, error) {
	if need := len(g.b) + len(p); need > cap(g.b) { // a pack that is almost all footer
		if err := g.grow(need + need/4); err != nil {
			return 0, err
		}
	}
	g.b = append(g.b, p...)
	return len(p), nil
}

// regionReader reads a region, and keeps it alive.
type regionReader struct {
	g   *region
	off int64
}

// Read implements [io.Reader].
func (r *regionReader) Read(p []byte) (int, error) {
	defer runtime.KeepAlive(r.g)
	if r.off >= int64(len(r.g.b)) {
		return 0, io.EOF
	}
	n := copy(p, r.g.b[r.off:])
	r.off += int64(n)
	return n, nil
}

// Seek implements [io.Seeker]: a body that can seek is sent again after an error.
func (r *regionReader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += r.off
	case io.SeekEnd:
		off += int64(len(r.g.b))
	}
	if off < 0 {
		return 0, fmt.Errorf("seeking to %d", off)
	}
	r.off = off
	return off, nil
}
