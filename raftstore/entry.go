package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A log entry is one byte that says what follows, and the rest. A node that
// meets a kind it does not know halts: skipping it would make its state differ.
//
//	1  commands: uvarint count, then for each uvarint length and bytes
//	2  mark: see marks.go
const (
	kindCommands = 1
	kindMark     = 2
)

// errMalformed means that an entry of a known kind is not well formed. Every
// node sees the same bytes, so all treat it alike: as an entry of no commands.
var errMalformed = errors.New("malformed entry")

// errKind means that a newer version wrote the entry.
var errKind = errors.New("entry of unknown kind")

// maxBatch is the most commands in one entry.
const maxBatch = 512

// commandSize is how much cmd adds to an entry.
func commandSize(cmd []byte) int {
	return uvarintLen(uint64(len(cmd))) + len(cmd)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// encodeCommands packs cmds into an entry.
func encodeCommands(cmds [][]byte) []byte {
	size := 1 + binary.MaxVarintLen16
	for _, c := range cmds {
		size += commandSize(c)
	}
	b := append(make([]byte, 0, size), kindCommands)
	b = binary.AppendUvarint(b, uint64(len(cmds)))
	for _, c := range cmds {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return b
}

// decodeCommands is the inverse; the commands share b's memory. Lengths in any
// but the shortest form are malformed.
func decodeCommands(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, errMalformed
	}
	if b[0] != kindCommands {
		return nil, fmt.Errorf("%w: %d", errKind, b[0])
	}
	n, b, ok := uvarint(b[1:])
	if !ok || n > maxBatch {
		return nil, errMalformed
	}
	cmds := make([][]byte, 0, n)
	for range n {
		var size uint64
		if size, b, ok = uvarint(b); !ok || size > uint64(len(b)) {
			return nil, errMalformed
		}
		cmds = append(cmds, b[:size:size])
		b = b[size:]
	}
	if len(b) != 0 {
		return nil, errMalformed
	}
	return cmds, nil
}

func uvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n != uvarintLen(v) {
		return 0, nil, false
	}
	return v, b[n:], true
}
