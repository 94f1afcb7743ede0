package tree

import (
	"encoding/binary"
	"fmt"

	"coffer/backup/chunk"
)

// DirectIDs is how many ids an entry holds itself. Longer contents, those of
// files of about 10 GB and more, lie in lists.
const DirectIDs = 8192

// Lists cuts the ids of a large file into lists, at borders that depend on ids,
// so that a change rewrites one. It calls store for each and returns what that
// gave.
func Lists(ids []chunk.ID, store func(list []byte) (chunk.ID, error)) ([]chunk.ID, error) {
	var out []chunk.ID
	var b []byte
	for i := range ids {
		b = append(b, ids[i][:]...)
		n := len(b) / len(ids[i])
		if i == len(ids)-1 || n >= 4*DirectIDs || n >= DirectIDs/2 && binary.LittleEndian.Uint16(ids[i][:])&(DirectIDs-1) == 0 {
			id, err := store(b)
			if err != nil {
				return nil, err
			}
			out, b = append(out, id), b[:0]
		}
	}
	return out, nil
}

// IDs parses a list of [Lists].
func IDs(list []byte) ([]chunk.ID, error) {
	if len(list) == 0 || len(list)%len(chunk.ID{}) != 0 || len(list) > MaxNode {
		return nil, fmt.Errorf("list of %d bytes: %w", len(list), ErrFormat)
	}
	ids := make([]chunk.ID, len(list)/len(chunk.ID{}))
	for i := range ids {
		ids[i] = chunk.ID(list[i*32 : i*32+32])
	}
	return ids, nil
}
