package pack

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Compressor compresses segments and documents. It serves one goroutine.
type Compressor struct {
	z   *zstd.Encoder
	buf []byte
}

// NewCompressor returns a Compressor.
func NewCompressor() *Compressor {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err) // only for options that do not exist
	}
	return &Compressor{z: z}
}

// Compress returns the compressed form of plain, valid until the next call; or
// plain and false when that would not save a thirty-second of it.
func (c *Compressor) Compress(plain []byte) (stored []byte, compressed bool) {
	c.buf = c.z.EncodeAll(plain, c.buf[:0])
	if len(c.buf) >= len(plain)-len(plain)/32 {
		return plain, false
	}
	return c.buf, true
}

// Decompressor is the inverse of Compressor. It serves one goroutine.
type Decompressor struct{ z *zstd.Decoder }

// NewDecompressor returns a Decompressor.
func NewDecompressor() *Decompressor {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxPlain), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic(err) // only for options that do not exist
	}
	return &Decompressor{z}
}

// Decompress appends the plain form of stored, which must be size bytes long,
// to dst.
func (d *Decompressor) Decompress(dst, stored []byte, size int) ([]byte, error) {
	if size > MaxPlain {
		return nil, fmt.Errorf("segment of %d bytes: %w", size, ErrFormat)
	}
	at := len(dst)
	if cap(dst)-at < size {
		dst = append(make([]byte, 0, at+size), dst...)
	}
	out, err := d.z.DecodeAll(stored, dst)
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w: %w", ErrFormat, err)
	}
	if len(out)-at != size {
		return nil, fmt.Errorf("decompressed to %d bytes, want %d: %w", len(out)-at, size, ErrFormat)
	}
	return out, nil
}

var compressors, decompressors sync.Pool

// GetCompressor returns a Compressor that was put back, or a new one: making one
// costs more than compressing a small document.
func GetCompressor() *Compressor {
	if c, ok := compressors.Get().(*Compressor); ok {
		return c
	}
	return NewCompressor()
}

// Put gives a Compressor back; what it returned is not valid any more.
func (c *Compressor) Put() { compressors.Put(c) }

// GetDecompressor returns a Decompressor that was put back, or a new one.
func GetDecompressor() *Decompressor {
	if d, ok := decompressors.Get().(*Decompressor); ok {
		return d
	}
	return NewDecompressor()
}

// Put gives a Decompressor back.
func (d *Decompressor) Put() { decompressors.Put(d) }
