package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync"
)

// chunker seals or opens the chunks of one part in their order.
type chunker struct {
	aead  cipher.AEAD
	nonce []byte // the last 12 bytes: chunk number in 11, last-chunk flag in 1
	next  uint64 // number of the next chunk
}

func newChunker(a cipher.AEAD) *chunker {
	return &chunker{aead: a, nonce: make([]byte, a.NonceSize())}
}

// step sets the nonce of the next chunk.
func (c *chunker) step(last bool) []byte {
	binary.BigEndian.PutUint64(c.nonce[len(c.nonce)-9:], c.next)
	c.next++
	flag := &c.nonce[len(c.nonce)-1]
	if *flag = 0; last {
		*flag = 1
	}
	return c.nonce
}

// seal puts the sealed chunk into dst[:0]; dst and plain are the same memory or apart.
func (c *chunker) seal(dst, plain []byte, last bool) []byte {
	return c.aead.Seal(dst[:0], c.step(last), plain, nil)
}

// open opens a chunk into dst[:0]; dst and sealed are the same memory or apart.
func (c *chunker) open(dst, sealed []byte, last bool) ([]byte, error) {
	n := c.next
	plain, err := c.aead.Open(dst[:0], c.step(last), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("chunk %d: %w", n, ErrCorrupt)
	}
	return plain, nil
}

// bufferSize is a sealed chunk and the byte after it, by which a reader of a
// stream knows that the chunk is not the last.
const bufferSize = chunkSealed + 1

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func getBuffer() *[bufferSize]byte { return buffers.Get().(*[bufferSize]byte) }

// putBuffer takes b back, wiped: it may hold plaintext.
func putBuffer(b *[bufferSize]byte) {
	clear(b[:])
	buffers.Put(b)
}
