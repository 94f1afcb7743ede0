package seal

import "fmt"

// ChunkSize is the plaintext of one chunk, in bytes.
const ChunkSize = 1 << chunkLog2

// MaxParts is the highest part number, as in S3.
const MaxParts = 10000

// maxSize bounds the size of an object, far above any store's limit, so that no
// sum of sizes overflows.
const maxSize = 1 << 56

const (
	tagSize     = 16
	chunkSealed = ChunkSize + tagSize
)

// SealedSize is the size of a part with plain bytes of plaintext: also the size
// of a whole object of one part without footer.
func SealedSize(plain int64) int64 {
	return headerSize + plain + tagSize*chunks(plain)
}

// PlainSize is the inverse of [SealedSize]; a size that no part has is an error.
// For an object of one part with a footer of f bytes it is PlainSize(size - f).
func PlainSize(sealed int64) (int64, error) {
	body := sealed - headerSize
	n := (body + chunkSealed - 1) / chunkSealed
	plain := body - n*tagSize
	if body < tagSize || sealed > 2*maxSize || chunks(plain) != n {
		return 0, fmt.Errorf("size %d is that of no sealed object: %w", sealed, ErrCorrupt)
	}
	return plain, nil
}

// chunks counts the chunks of a part; an empty part is one empty chunk.
func chunks(plain int64) int64 { return max(1, (plain+ChunkSize-1)/ChunkSize) }
