// Package chunk cuts data into chunks and names them, both by secrets, so that
// neither the lengths nor the names of chunks identify known files.
//
// A rolling gear hash over the last 64 bytes, with a secret table, finds
// candidates for a border; AES under a second secret decides which of them are
// borders. Who learns the table, as published attacks on chunkers do, knows
// candidates only. The name of a chunk is its BLAKE3 hash under a third secret.
package chunk

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// ID names a chunk: BLAKE3, keyed, of its bytes.
type ID [32]byte

// String returns 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Contexts of BLAKE3's key derivation; each has one use.
const (
	contextGear = "coffer 2026 backup chunk gear table v1"
	contextCut  = "coffer 2026 backup chunk border key v1"
	contextID   = "coffer 2026 backup chunk id key v1"
)

// Hasher computes IDs. It serves one goroutine.
type Hasher struct{ h *blake3.Hasher }

// NewHasher returns a Hasher under the repository's secret.
func NewHasher(secret [32]byte) *Hasher {
	var key [32]byte
	blake3.DeriveKey(contextID, secret[:], key[:])
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // only for a key that is not 32 bytes
	}
	return &Hasher{h}
}

// Sum returns the ID of data.
func (h *Hasher) Sum(data []byte) (id ID) {
	h.h.Reset()
	h.h.Write(data)
	h.h.Sum(id[:0])
	return id
}

// Params are the public parameters of a chunker; they stand in the
// repository's config and never change.
type Params struct {
	Min       int // bytes in a chunk, the last of a file aside; at least 64
	Normal    int // where borders become likelier
	Max       int // bytes in a chunk
	Candidate int // bits of the gear hash that are 0 at a candidate
	Short     int // further bits, of AES, that are 0 at a border before Normal
	Long      int // the same after Normal
}

// DefaultParams give chunks of 512 KiB to 4 MiB, 1.2 MiB on average.
var DefaultParams = Params{Min: 512 << 10, Normal: 1 << 20, Max: 4 << 20, Candidate: 8, Short: 14, Long: 10}

// MaxLen bounds what Params may ask for, and so the memory of a reader.
const MaxLen = 64 << 20

// Check reports parameters that no writer would choose.
func (p Params) Check() error {
	if p.Min < window || p.Normal < p.Min || p.Max < p.Normal || p.Max > MaxLen ||
		p.Candidate < 1 || p.Candidate > 24 || p.Long < 0 || p.Short < p.Long || p.Short > 32 {
		return fmt.Errorf("chunk parameters %+v are out of range", p)
	}
	return nil
}

// window is how many bytes the gear hash depends on: its width in bits.
const window = 64

// Cutter finds the borders of chunks. It serves one goroutine; Clone gives
// others their own.
type Cutter struct {
	p         Params
	candidate uint64
	table     *[256]uint64
	block     cipher.Block
	in, out   []byte // 16 bytes each, kept so that they do not escape at each call
}

// NewCutter returns a Cutter under the repository's secret.
func NewCutter(p Params, secret [32]byte) (*Cutter, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	var raw [256 * 8]byte
	blake3.DeriveKey(contextGear, secret[:], raw[:])
	c := &Cutter{p: p, table: new([256]uint64), in: make([]byte, 16), out: make([]byte, 16)}
	for i := range c.table {
		c.table[i] = binary.LittleEndian.Uint64(raw[i*8:])
	}
	c.candidate = (1<<p.Candidate - 1) << (64 - p.Candidate)
	var key [32]byte
	blake3.DeriveKey(contextCut, secret[:], key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	c.block = block
	return c, nil
}

// Clone returns a Cutter for another goroutine.
func (c *Cutter) Clone() *Cutter {
	d := *c
	d.in, d.out = make([]byte, 16), make([]byte, 16)
	return &d
}

// Params returns the parameters.
func (c *Cutter) Params() Params { return c.p }

// Cut returns the length of the first chunk of data, which holds either at
// least Max bytes or all that is left of a file.
func (c *Cutter) Cut(data []byte) int {
	if len(data) <= c.p.Min {
		return len(data)
	}
	var h uint64
	for _, b := range data[c.p.Min-window : c.p.Min] {
		h = h<<1 + c.table[b]
	}
	normal, end := min(c.p.Normal, len(data)), min(c.p.Max, len(data))
	i, h := c.border(data, h, c.p.Min, normal, c.p.Short)
	if i < normal {
		return i + 1
	}
	i, _ = c.border(data, h, normal, end, c.p.Long)
	return min(i+1, end)
}

// border returns the first border in data[i:end] that AES confirms with the
// given number of bits, or end.
func (c *Cutter) border(data []byte, h uint64, i, end, bits int) (int, uint64) {
	mask := uint64(1)<<bits - 1
	for {
		i, h = scan(data, h, i, end, c.candidate, c.table)
		if i == end {
			return end, h
		}
		binary.LittleEndian.PutUint64(c.in, h)
		c.block.Encrypt(c.out, c.in)
		if binary.LittleEndian.Uint64(c.out)&mask == 0 {
			return i, h
		}
		i++
	}
}

// scan returns the first i at which the hash of the bytes up to and including
// data[i] has no bit of mask, with that hash, or end. The loop takes eight bytes
// at a time and shifts by two where it can: half the latency of one at a time.
func scan(data []byte, h uint64, i, end int, mask uint64, t *[256]uint64) (int, uint64) {
	for ; i+8 <= end; i += 8 {
		q := data[i : i+8 : i+8]
		h0 := h<<1 + t[q[0]]
		h1 := h<<2 + t[q[0]]<<1 + t[q[1]]
		h2 := h1<<1 + t[q[2]]
		h3 := h1<<2 + t[q[2]]<<1 + t[q[3]]
		h4 := h3<<1 + t[q[4]]
		h5 := h3<<2 + t[q[4]]<<1 + t[q[5]]
		h6 := h5<<1 + t[q[6]]
		h7 := h5<<2 + t[q[6]]<<1 + t[q[7]]
		if h0&mask == 0 || h1&mask == 0 || h2&mask == 0 || h3&mask == 0 ||
			h4&mask == 0 || h5&mask == 0 || h6&mask == 0 || h7&mask == 0 {
			for k, x := range [8]uint64{h0, h1, h2, h3, h4, h5, h6, h7} {
				if x&mask == 0 {
					return i + k, x
				}
			}
		}
		h = h7
	}
	for ; i < end; i++ {
		h = h<<1 + t[data[i]]
		if h&mask == 0 {
			return i, h
		}
	}
	return end, h
}
