package backup

import (
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"coffer/backup/pack"
	"coffer/backup/store"
	"coffer/seal"
	"coffer/upstream"
)

// "go test ./backup -run TestManyChunks -chunks 10000000" is the large form.
var manyChunks = flag.Int("chunks", 400_000, "in the index of a large repository")

// describeMany publishes an index of packs that are not there, and that nobody
// needs: 24 segments each, with 25 chunks a segment.
func describeMany(t *testing.T, st *store.Store, chunks int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(b []byte) {
		for ; len(b) >= 8; b = b[8:] {
			binary.LittleEndian.PutUint64(b, rnd.Uint64())
		}
	}
	for chunks > 0 {
		var x pack.Index
		for len(x.Records) < 90 && chunks > 0 {
			rec := &pack.Record{Size: 24 << 20, Segments: make([]pack.Segment, 24)}
			random(rec.Name[:])
			for i := range rec.Segments {
				s := &rec.Segments[i]
				s.Stored, s.Compressed, s.Chunks = 900<<10, true, make([]pack.Chunk, 25)
				for j := range s.Chunks {
					random(s.Chunks[j].ID[:])
					s.Chunks[j].Len = 40 << 10
				}
				chunks -= len(s.Chunks)
			}
			x.Records = append(x.Records, rec)
		}
		_, _, err := st.PutIndex(t.Context(), &x)
		must(t, err)
	}
}

// unraced is the program of these tests without the race detector, which takes
// several times the memory.
func unraced(t *testing.T) string {
	t.Helper()
	info, _ := debug.ReadBuildInfo()
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return os.Args[0]
	}
	program := filepath.Join(t.TempDir(), "backup.test")
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// A backup and a prune of a repository with many chunks stay within the memory
// that is promised, in the first run and in the next, which finds the files of the
// first.
func TestManyChunks(t *testing.T) {
	f := newFixture(t)
	raw := strings.Repeat("k", 32)
	key, err := seal.KeyFromBytes([]byte(raw))
	must(t, err)
	id, folder := seal.NewStoreID(), t.TempDir()
	b, err := upstream.NewFolder(folder)
	must(t, err)
	conf := Config{Bucket: b, Keys: key.Keys(id), CacheDir: t.TempDir()}
	must(t, Init(t.Context(), conf))
	r, err := Open(t.Context(), conf)
	must(t, err)
	describeMany(t, r.st, *manyChunks)
	f.fill()
	cache, program := t.TempDir(), unraced(t)
	for _, prune := range []string{"", "1"} {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{folder, cache, f.src, raw, id.String()}, "\n"), pruneEnv+"="+prune)
		began := time.Now()
		out, err := cmd.CombinedOutput()
		_, text, _ := strings.Cut(string(out), "peak ")
		peak, perr := strconv.Atoi(strings.TrimSpace(text))
		if err = errors.Join(err, perr); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		peak >>= 10
		t.Logf("%d chunks, prune %q: peak %d MiB, wall %v, CPU %v", *manyChunks, prune, peak, time.Since(began).Round(time.Millisecond),
			cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		if peak > 200 {
			t.Errorf("a repository with %d chunks takes %d MiB (prune %q)", *manyChunks, peak, prune)
		}
		f.write("dir1/more", random(9, 5000))
	}
}
