package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"coffer/backup/pack"
	"coffer/backup/store"
	"coffer/internal/durable"
	"coffer/upstream"
)

// head is what a writer says after each change of its snapshots. Heads of a
// writer form a chain, so storage that hides the newest ones is found out by
// whoever has seen them.
type head struct {
	Version   int        `cbor:"1,keyasint"`
	Writer    [16]byte   `cbor:"2,keyasint"`
	Seq       uint64     `cbor:"3,keyasint"`           // from 1
	Previous  []byte     `cbor:"4,keyasint,omitempty"` // SHA-256 of the sealed head before
	Snapshots [][16]byte `cbor:"5,keyasint"`           // of this writer, that exist
	Forgotten [][16]byte `cbor:"6,keyasint,omitempty"` // of any writer, removed by this one
	Time      time.Time  `cbor:"7,keyasint"`
}

const headVersion = 1

// maxForgotten bounds a head; by then, the writers concerned have said it too.
const maxForgotten = 4096

// localState is what a machine remembers: who it is as a writer, and the newest
// heads it has seen. Losing it makes a new writer and forgets what was seen.
type localState struct {
	Writer    [16]byte            `cbor:"1,keyasint"`
	Seq       uint64              `cbor:"2,keyasint"`
	Previous  []byte              `cbor:"3,keyasint,omitempty"`
	Seen      map[string]seenHead `cbor:"4,keyasint,omitempty"` // by writer, in hex
	Forgotten [][16]byte          `cbor:"5,keyasint,omitempty"`
	Key       []byte              `cbor:"6,keyasint,omitempty"` // id of the key that the heads were sealed under
}

type seenHead struct {
	Seq  uint64 `cbor:"1,keyasint"`
	Hash []byte `cbor:"2,keyasint"`
}

func headName(writer pack.Name, seq uint64) string {
	return fmt.Sprintf("%s%s-%016x", store.HeadDir, writer, seq)
}

func parseHeadName(object string) (writer pack.Name, seq uint64, err error) {
	w, n, ok := strings.Cut(strings.TrimPrefix(object, store.HeadDir), "-")
	if !ok || len(n) != 16 {
		return writer, 0, fmt.Errorf("%q is no head", object)
	}
	if writer, err = pack.ParseName(w); err != nil {
		return writer, 0, err
	}
	seq, err = strconv.ParseUint(n, 16, 64)
	return writer, seq, err
}

// withState runs fn on the local state, alone among all processes that share the
// cache folder, and keeps what fn made of it.
func (r *Repo) withState(fn func(*localState) error) error {
	st := &localState{}
	if r.st.CacheFile() == "" {
		st.Writer = store.NewName()
		return fn(st)
	}
	lock, err := os.OpenFile(r.st.CacheFile("state.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("locking the local state: %w", err)
	}
	defer lock.Close() // and unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking the local state: %w", err)
	}
	raw, err := os.ReadFile(r.st.CacheFile("state"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the local state: %w", err)
	}
	if err == nil && store.Decoding.Unmarshal(raw, st) != nil {
		r.log.Warn("the local state is damaged: a rollback before now will not be noticed")
		st = &localState{}
	}
	if st.Writer == [16]byte{} {
		st.Writer = store.NewName()
	}
	id := r.st.KeyID()
	if st.Seen == nil || len(st.Key) > 0 && !slices.Equal(st.Key, id[:]) {
		// A rekey has sealed all heads anew: what they were before says nothing.
		st.Seen, st.Previous = make(map[string]seenHead), nil
	}
	st.Key = id[:]
	if err := fn(st); err != nil {
		return err
	}
	if raw, err = store.Encoding.Marshal(st); err != nil {
		return fmt.Errorf("encoding the local state: %w", err)
	}
	return durable.WriteFile(r.st.CacheFile("state"), raw, 0o600)
}

// publishHead says which snapshots of this writer exist, and which of anyone it
// has just removed. all are those that exist.
func (r *Repo) publishHead(ctx context.Context, all []*Snapshot, forgotten []*Snapshot) error {
	return r.withState(func(st *localState) error {
		h := head{Version: headVersion, Writer: st.Writer, Time: time.Now().UTC()}
		for _, s := range all {
			if n, err := pack.ParseName(s.ID); err == nil && s.writer.id == st.Writer {
				h.Snapshots = append(h.Snapshots, n)
			}
		}
		for _, s := range forgotten {
			if n, err := pack.ParseName(s.ID); err == nil && s.writer.id != st.Writer {
				st.Forgotten = append(st.Forgotten, n)
			}
		}
		if over := len(st.Forgotten) - maxForgotten; over > 0 {
			st.Forgotten = slices.Delete(st.Forgotten, 0, over)
		}
		h.Forgotten = st.Forgotten
		for {
			h.Seq, h.Previous = st.Seq+1, st.Previous
			raw, err := store.Encoding.Marshal(&h)
			if err != nil {
				return fmt.Errorf("encoding a head: %w", err)
			}
			sealed, err := r.st.PutDoc(ctx, headName(st.Writer, h.Seq), raw)
			if errors.Is(err, upstream.ErrExists) { // its answer was lost, or the state is old
				st.Seq++
				st.Previous = nil
				continue
			}
			if err != nil {
				return err
			}
			sum := sha256.Sum256(sealed)
			st.Seq, st.Previous = h.Seq, sum[:]
			st.see(st.Writer, h.Seq, sum[:])
			return nil
		}
	})
}

func (st *localState) see(writer pack.Name, seq uint64, hash []byte) {
	if st.Seen == nil {
		st.Seen = make(map[string]seenHead)
	}
	st.Seen[writer.String()] = seenHead{seq, hash}
}

// writerID returns who this machine is, and the number of its next head.
func (r *Repo) writerID() (ref writerRef, err error) {
	err = r.withState(func(st *localState) error {
		ref = writerRef{st.Writer, st.Seq + 1}
		return nil
	})
	return ref, err
}

// seenHeads are the heads that lie upstream.
type seenHeads struct {
	newest    map[pack.Name]uint64
	heads     map[string]*head  // by object
	hashes    map[string][]byte // of the sealed objects
	problems  []Problem         // those that do not open
	forgotten map[[16]byte]bool
}

// readHeads reads all heads.
func (r *Repo) readHeads(ctx context.Context) (*seenHeads, error) {
	x := &seenHeads{newest: make(map[pack.Name]uint64), heads: make(map[string]*head), hashes: make(map[string][]byte),
		forgotten: make(map[[16]byte]bool)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(store.Fetchers)
	var mu sync.Mutex
	err := r.bucket.List(gctx, store.HeadDir, "", func(i upstream.Info) error {
		w, seq, err := parseHeadName(i.Name)
		if err != nil {
			r.log.Warn("a foreign object lies in the repository", zap.String("object", i.Name))
			return nil
		}
		x.newest[w] = max(x.newest[w], seq)
		g.Go(func() error {
			h, sum, err := r.readHead(gctx, i.Name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && gctx.Err() == nil {
				x.problems = append(x.problems, Problem{Object: i.Name, Err: err.Error()})
				return nil
			}
			x.heads[i.Name], x.hashes[i.Name] = h, sum
			return err
		})
		return nil
	})
	if gerr := g.Wait(); err == nil {
		err = gerr
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", store.HeadDir, err)
	}
	for _, h := range x.heads {
		for _, n := range h.Forgotten {
			x.forgotten[n] = true
		}
	}
	return x, nil
}

// rollbacks compares the heads with the snapshots that exist and with what this
// machine remembers, and describes what storage has taken back. Heads that do
// not open are problems, by object.
func (r *Repo) rollbacks(ctx context.Context, snapshots []pack.Name) (found []string, problems []Problem, err error) {
	x, err := r.readHeads(ctx)
	if err != nil {
		return nil, nil, err
	}
	exists := make(map[[16]byte]bool)
	for _, n := range snapshots {
		exists[n] = true
	}
	for w, seq := range x.newest {
		if h := x.heads[headName(w, seq)]; h != nil {
			for _, n := range h.Snapshots {
				if !exists[n] && !x.forgotten[n] {
					found = append(found, fmt.Sprintf("writer %s: snapshot %s is gone", w, pack.Name(n)))
				}
			}
		}
	}
	for name, h := range x.heads {
		before := x.hashes[headName(h.Writer, h.Seq-1)]
		if before != nil && h.Previous != nil && !slices.Equal(before, h.Previous) {
			found = append(found, fmt.Sprintf("writer %s: %s does not follow the head before it", pack.Name(h.Writer), name))
		}
	}
	err = r.withState(func(st *localState) error {
		for hex, seen := range st.Seen {
			w, err := pack.ParseName(hex)
			if err != nil {
				continue
			}
			hash := x.hashes[headName(w, seen.Seq)]
			switch seq := x.newest[w]; {
			case seq < seen.Seq:
				found = append(found, fmt.Sprintf("writer %s: head %d was seen, the newest is %d", w, seen.Seq, seq))
			case hash != nil && !slices.Equal(hash, seen.Hash):
				found = append(found, fmt.Sprintf("writer %s: head %d is another one than was seen", w, seen.Seq))
			}
		}
		for w, seq := range x.newest {
			if hash := x.hashes[headName(w, seq)]; hash != nil && seq > st.Seen[w.String()].Seq {
				st.see(w, seq, hash)
			}
		}
		return nil
	})
	slices.Sort(found)
	return found, x.problems, err
}

func (r *Repo) readHead(ctx context.Context, name string) (*head, []byte, error) {
	sealed, err := r.st.Fetch(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	raw, err := r.st.OpenDoc(name, sealed)
	if err != nil {
		return nil, nil, err
	}
	h := &head{}
	if err := store.Decoding.Unmarshal(raw, h); err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w: %w", name, ErrCorrupt, err)
	}
	if h.Version != headVersion {
		return nil, nil, fmt.Errorf("reading %s: version %d: %w", name, h.Version, ErrVersion)
	}
	sum := sha256.Sum256(sealed)
	return h, sum[:], nil
}
