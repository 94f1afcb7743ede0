package local

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"hash/fnv"
	"os"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"coffer/backup/pack"
	"coffer/backup/tree"
)

// Journal says what a run has stored since its last index object, and the
// contents of the files it has read, so that the run after one that was killed
// reads nothing twice. It ends with the run. Records are
//
//	kind 1 ('P' a pack's record, 'F' path and entry), length 4, CRC-32C 4, body
//
// and what follows the first torn one does not count.
type Journal struct {
	log  *zap.Logger
	path string // empty: nothing is kept

	data  []byte           // of the killed run, mapped
	at    map[uint64]int64 // hash of a path to its record
	packs []*pack.Record   // of the killed run

	mu  sync.Mutex
	f   *os.File
	w   *bufio.Writer
	err error
}

const (
	journalHead = 9
	kindPack    = 'P'
	kindFile    = 'F'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenJournal reads what a killed run left, and appends from there on.
func OpenJournal(path string, log *zap.Logger) *Journal {
	j := &Journal{log: log, path: path, at: make(map[uint64]int64)}
	if path == "" {
		return j
	}
	j.data, _ = mapFile(path) // absent or unreadable: as if empty
	end := j.scan()
	if j.f, j.err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); j.err == nil {
		if j.err = j.f.Truncate(end); j.err == nil {
			_, j.err = j.f.Seek(end, 0)
		}
	}
	if j.err != nil {
		log.Warn("the journal cannot be written: a killed run would begin anew", zap.Error(j.err))
		return j
	}
	j.w = bufio.NewWriterSize(j.f, 64<<10)
	return j
}

func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
}

func unmap(data []byte) {
	if data != nil {
		unix.Munmap(data)
	}
}

// scan finds the records and returns where the first torn one begins.
func (j *Journal) scan() int64 {
	at := 0
	for {
		kind, body, next := record(j.data, at)
		if body == nil {
			return int64(at)
		}
		switch kind {
		case kindPack:
			if rec, rest, err := pack.ParseRecord(body); err == nil && len(rest) == 0 {
				j.packs = append(j.packs, rec)
			}
		case kindFile:
			if n, k := binary.Uvarint(body); k > 0 && n <= uint64(len(body)-k) {
				j.at[hashPath(string(body[k:k+int(n)]))] = int64(at)
			}
		}
		at = next
	}
}

// record returns the record at an offset, and where the next one begins.
func record(data []byte, at int) (kind byte, body []byte, next int) {
	if len(data)-at < journalHead {
		return 0, nil, at
	}
	n := int(binary.LittleEndian.Uint32(data[at+1:]))
	if n == 0 || n > len(data)-at-journalHead {
		return 0, nil, at
	}
	body = data[at+journalHead:][:n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[at+5:]) {
		return 0, nil, at
	}
	return data[at], body, at + journalHead + n
}

func hashPath(p string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(p))
	return h.Sum64()
}

// Packs returns what the killed run had stored since its last index object.
func (j *Journal) Packs() []*pack.Record { return j.packs }

// Find returns what the killed run knew of a file.
func (j *Journal) Find(path string) *tree.Entry {
	if len(j.at) == 0 {
		return nil
	}
	at, ok := j.at[hashPath(path)]
	if !ok {
		return nil
	}
	_, body, _ := record(j.data, int(at))
	n, k := binary.Uvarint(body)
	if string(body[k:k+int(n)]) != path {
		return nil
	}
	entries, _, err := tree.Decode(body[k+int(n):])
	if err != nil || len(entries) != 1 {
		return nil
	}
	return &entries[0]
}

// File notes the content of a file.
func (j *Journal) File(path string, e *tree.Entry) {
	if j.w == nil {
		return
	}
	b := binary.AppendUvarint(nil, uint64(len(path)))
	b = append(b, path...)
	j.append(kindFile, append(b, tree.One(e)...), false)
}

// Pack notes a pack that is durable upstream, and writes out all before it.
func (j *Journal) Pack(r *pack.Record) { j.append(kindPack, r.Append(nil), true) }

func (j *Journal) append(kind byte, body []byte, flush bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.w == nil {
		return
	}
	var head [journalHead]byte
	head[0] = kind
	binary.LittleEndian.PutUint32(head[1:], uint32(len(body)))
	binary.LittleEndian.PutUint32(head[5:], crc32.Checksum(body, castagnoli))
	j.w.Write(head[:])
	_, err := j.w.Write(body)
	if err == nil && flush {
		err = j.w.Flush()
	}
	if err != nil && j.err == nil { // a full disk: the run goes on without
		j.err = err
		j.log.Warn("the journal cannot be written: a killed run would begin anew", zap.Error(err))
	}
}

// Close ends the journal. After a run that reached its end it is not needed.
func (j *Journal) Close(finished bool) {
	unmap(j.data)
	if j.f == nil {
		return
	}
	if j.w != nil {
		j.w.Flush()
	}
	j.f.Close()
	if finished {
		os.Remove(j.path)
	}
}
