package table

import (
	"encoding/binary"
	"math/bits"

	"coffer/backup/chunk"
)

// filter is a Bloom filter of blocks of 64 bytes (Putze, Sanders, Singler 2007):
// an id sets six bits of one block, so a question costs one access to memory. At
// twelve bits an id it takes less than one of a hundred foreign ids for its own.
// Its input is a keyed hash: nobody can choose ids that fill it.
type filter []uint64

const (
	filterBits  = 12 // an id
	blockWords  = 8
	filterProbe = 6
)

func newFilter(n int) filter {
	return make(filter, (n*filterBits/64+blockWords)/blockWords*blockWords)
}

// place returns the block of an id, and the bits in it, nine of the number for each.
func (f filter) place(id *chunk.ID) (block []uint64, bit uint64) {
	hi, _ := bits.Mul64(binary.LittleEndian.Uint64(id[8:]), uint64(len(f)/blockWords))
	return f[hi*blockWords:][:blockWords], binary.LittleEndian.Uint64(id[16:])
}

func (f filter) add(id *chunk.ID) {
	block, bit := f.place(id)
	for range filterProbe {
		block[bit>>6&7] |= 1 << (bit & 63)
		bit >>= 9
	}
}

func (f filter) has(id *chunk.ID) bool {
	block, bit := f.place(id)
	for range filterProbe {
		if block[bit>>6&7]&(1<<(bit&63)) == 0 {
			return false
		}
		bit >>= 9
	}
	return true
}
