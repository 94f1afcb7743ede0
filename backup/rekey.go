package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/seal"
	"coffer/upstream"
)

// RekeyReport says what a rekey did.
type RekeyReport struct {
	Objects int      `json:"objects"` // sealed anew
	Bytes   int64    `json:"bytes"`   // of them
	Present int      `json:"present"` // under the new key already
	Foreign []string `json:"foreign"` // objects under neither key: left as they are
}

// Rekey seals every object of a repository anew, from old keys to new ones of the
// same store: each gets a data key of its own and keeps its name, so what was copied
// under the old key opens nothing that is there afterwards. One that is under the
// new key already stays, so a run that was interrupted goes on. It ends when a look
// at all objects finds none under the old key: machines that still have that must
// not write meanwhile.
//
// The secret of the chunker and of chunk ids stays, or nothing would deduplicate
// any more: who had the old key can compare lengths, which packs hide, with files he
// has.
func Rekey(ctx context.Context, b Bucket, from, to *seal.Keys, progress func(Progress)) (RekeyReport, error) {
	k := &rekeyer{b: b, from: from, to: to, started: time.Now()}
	if k.from.Store() != k.to.Store() || k.from.ID() == k.to.ID() {
		return k.rep, errors.New("a rekey is from one key of a store to another one")
	}
	defer report.Every(progress, k.progress)()
	for range maxPasses {
		before := k.rep.Objects
		k.rep.Present, k.rep.Foreign = 0, nil
		if err := k.pass(ctx); err != nil {
			return k.rep, fmt.Errorf("sealing the repository under the new key: %w", err)
		}
		if k.rep.Objects == before {
			k.rep.Present -= before
			return k.rep, nil
		}
	}
	return k.rep, fmt.Errorf("another machine goes on writing under the old key: %w", upstream.ErrUnavailable)
}

// maxPasses is how often all objects are looked at.
const maxPasses = 10

type rekeyer struct {
	b        Bucket
	from, to *seal.Keys
	started  time.Time
	mu       sync.Mutex
	rep      RekeyReport
	all      int64 // objects seen in this pass
	seen     int64
}

func (k *rekeyer) progress() Progress {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Progress{Phase: "rekey", Started: k.started, Files: k.seen, AllFiles: k.all, Bytes: k.rep.Bytes, AllBytes: k.rep.Bytes, Uploaded: k.rep.Bytes}
}

// pass looks at all objects once.
func (k *rekeyer) pass(ctx context.Context) error {
	var list []upstream.Info
	if err := k.b.List(ctx, store.Root, "", func(i upstream.Info) error { list = append(list, i); return nil }); err != nil {
		return fmt.Errorf("listing %s: %w", store.Root, err)
	}
	k.mu.Lock()
	k.all, k.seen = int64(len(list)), 0
	k.mu.Unlock()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // each holds a pack in memory
	for _, i := range list {
		g.Go(func() error {
			n, err := k.object(gctx, i)
			k.mu.Lock()
			defer k.mu.Unlock()
			k.seen++
			switch {
			case errors.Is(err, upstream.ErrNotExist): // removed meanwhile
				return nil
			case errors.Is(err, seal.ErrKey):
				k.rep.Foreign = append(k.rep.Foreign, i.Name)
				return nil
			case err != nil:
				return fmt.Errorf("%s: %w", i.Name, err)
			case n < 0:
				k.rep.Present++
			default:
				k.rep.Objects++
				k.rep.Bytes += n
			}
			return nil
		})
	}
	return g.Wait()
}

// object seals one anew, and returns its size, or -1 if that was done before.
func (k *rekeyer) object(ctx context.Context, i upstream.Info) (int64, error) {
	body, info, err := k.b.Get(ctx, i.Name, 0, -1)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	head := make([]byte, seal.ObjectHeaderSize)
	if _, err := io.ReadFull(body, head); err != nil {
		return 0, store.Damaged(i.Name, store.NoEOF(err))
	}
	_, err = seal.OpenObjectKey(k.to, head, i.Name)
	if err == nil {
		return -1, nil
	}
	if !errors.Is(err, seal.ErrKey) {
		return 0, store.Damaged(i.Name, err)
	}
	plain, err := seal.NewReader(io.MultiReader(bytes.NewReader(head), body), k.from, i.Name)
	if err != nil {
		return 0, err
	}
	defer plain.Close()
	var out bytes.Buffer
	out.Grow(int(min(info.Size, 64<<20)) + 1<<10)
	if strings.HasPrefix(i.Name, store.HeadDir) {
		err = k.head(&out, plain, i.Name)
	} else {
		err = k.copy(&out, plain, i.Name)
	}
	if err != nil {
		return 0, store.Damaged(i.Name, err)
	}
	_, err = k.b.Put(ctx, i.Name, bytes.NewReader(out.Bytes()), int64(out.Len()), upstream.PutOptions{})
	return int64(out.Len()), err
}

// copy seals what plain gives under the new key.
func (k *rekeyer) copy(out io.Writer, plain io.Reader, name string) error {
	w, err := seal.NewWriter(out, k.to, seal.Options{Name: name})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, plain); err != nil {
		return err
	}
	return w.Close()
}

// head is copy for a head, which loses the hash of the one before: that has another
// one now.
func (k *rekeyer) head(out io.Writer, plain io.Reader, name string) error {
	b, err := io.ReadAll(io.LimitReader(plain, 64<<20))
	if err != nil {
		return err
	}
	b, err = store.ReplaceDoc(b, func(payload []byte) ([]byte, error) {
		var h head
		if err := store.Decoding.Unmarshal(payload, &h); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		h.Previous = nil
		return store.Encoding.Marshal(&h)
	})
	if err != nil {
		return err
	}
	return k.copy(out, bytes.NewReader(b), name)
}
