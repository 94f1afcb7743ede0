package upstream

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// The end of a file: the metadata, then a tail. The bytes of the object come
// first, so that parts can be joined by the file system without moving them.
//
//	offset  size  field
//	0       8     magic "cofferO1"
//	8       8     size of the object, little endian like all numbers here
//	16      16    ETag, random for each write
//	32      4     size of the metadata: lines of "key=value\n", sorted
//	36      4     CRC32C of the metadata and of bytes 0 to 35
const (
	tailMagic = "cofferO1"
	tailSize  = 40
	maxLines  = 2 * MaxMeta // "=" and newline of each pair included, generously
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newFrame returns what is written behind the size bytes of an object, and its ETag.
func newFrame(size int64, meta map[string]string) (frame []byte, etag string) {
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		frame = append(frame, k+"="+meta[k]+"\n"...)
	}
	lines := len(frame)
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	frame = append(frame, tailMagic...)
	frame = binary.LittleEndian.AppendUint64(frame, uint64(size))
	frame = append(frame, id[:]...)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(lines))
	frame = binary.LittleEndian.AppendUint32(frame, crc32.Checksum(frame, castagnoli))
	return frame, hex.EncodeToString(id[:])
}

// readInfo describes the object in the file f, without its name. A file that is
// not one is ErrDamaged; its Info has the Size of the file.
func readInfo(f *os.File) (Info, error) {
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	info := Info{Size: stat.Size(), ModTime: stat.ModTime()}
	if !stat.Mode().IsRegular() {
		return info, fmt.Errorf("not a regular file: %w", ErrDamaged)
	}
	end := make([]byte, min(stat.Size(), tailSize))
	if _, err := f.ReadAt(end, stat.Size()-int64(len(end))); err != nil && err != io.EOF {
		return info, err
	}
	if len(end) < tailSize || string(end[:8]) != tailMagic {
		return info, fmt.Errorf("no tail of an object: %w", ErrDamaged)
	}
	size := int64(binary.LittleEndian.Uint64(end[8:]))
	lines := int64(binary.LittleEndian.Uint32(end[32:]))
	if lines > maxLines || size < 0 || size != stat.Size()-tailSize-lines {
		return info, fmt.Errorf("tail for another size: %w", ErrDamaged)
	}
	frame := make([]byte, lines+tailSize)
	if _, err := f.ReadAt(frame, size); err != nil {
		return info, err
	}
	if crc32.Checksum(frame[:len(frame)-4], castagnoli) != binary.LittleEndian.Uint32(frame[len(frame)-4:]) {
		return info, fmt.Errorf("checksum of the tail: %w", ErrDamaged)
	}
	info.Size, info.ETag = size, hex.EncodeToString(end[16:32])
	info.Meta = make(map[string]string)
	for line := range bytes.Lines(frame[:lines]) {
		k, v, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), "=")
		info.Meta[k] = v
	}
	return info, nil
}
