package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/store"
)

// deletion says that packs are going to be removed. From then on writers store
// the chunks in them again. It outlives the removal by another grace time, so
// that an index which was written meanwhile and still has the packs does no harm.
type deletion struct {
	Version int        `cbor:"1,keyasint"`
	Time    time.Time  `cbor:"2,keyasint"`
	Grace   int64      `cbor:"3,keyasint"` // seconds
	Packs   [][16]byte `cbor:"4,keyasint"`

	name pack.Name
}

const deletionVersion = 1

// due is when the packs may be removed.
func (d *deletion) due() time.Time { return d.Time.Add(time.Duration(d.Grace) * time.Second) }

// over is when the deletion itself may be removed.
func (d *deletion) over() time.Time { return d.Time.Add(2 * time.Duration(d.Grace) * time.Second) }

// deletions reads all of them. One that does not open is an error: who does not
// know which packs will go must not rely on any.
func (r *Repo) deletions(ctx context.Context) ([]*deletion, error) {
	names, err := r.st.ListNames(ctx, store.DeletionsDir)
	if err != nil {
		return nil, err
	}
	var out []*deletion
	for _, n := range names {
		name := store.DeletionsDir + n.String()
		raw, err := r.st.GetDoc(ctx, name)
		if errors.Is(err, ErrNotExist) { // a prune has just removed it
			continue
		}
		if err != nil {
			return nil, err
		}
		d := &deletion{name: n}
		if err := store.Decoding.Unmarshal(raw, d); err != nil {
			return nil, fmt.Errorf("reading %s: %w: %w", name, ErrCorrupt, err)
		}
		if d.Version != deletionVersion {
			return nil, fmt.Errorf("reading %s: version %d: %w", name, d.Version, ErrVersion)
		}
		out = append(out, d)
	}
	return out, nil
}

// condemn makes the store treat packs that are going to be removed as gone.
func (r *Repo) condemn(ctx context.Context) ([]*deletion, error) {
	all, err := r.deletions(ctx)
	if err != nil {
		return nil, err
	}
	packs := make(map[pack.Name]bool)
	for _, d := range all {
		for _, p := range d.Packs {
			packs[p] = true
		}
	}
	r.st.Condemn(packs)
	return all, nil
}

// settle reads the index, and prefers packs that stay: what was stored again is
// found in its new place.
func (r *Repo) settle(ctx context.Context) error {
	if _, err := r.condemn(ctx); err != nil {
		return err
	}
	return r.st.Refresh(ctx)
}

// putDeletion says that packs will be removed, unless a snapshot needs them, when
// the grace time is over.
func (r *Repo) putDeletion(ctx context.Context, marks []pack.Name, grace time.Duration) error {
	slices.SortFunc(marks, func(a, b pack.Name) int { return slices.Compare(a[:], b[:]) })
	d := deletion{Version: deletionVersion, Time: time.Now().UTC(), Grace: int64(grace / time.Second)}
	for _, n := range marks {
		d.Packs = append(d.Packs, n)
	}
	raw, err := store.Encoding.Marshal(&d)
	if err != nil {
		return fmt.Errorf("encoding a deletion: %w", err)
	}
	name := store.DeletionsDir + store.NewName().String()
	if _, err := r.st.PutDoc(ctx, name, raw); err != nil {
		return err
	}
	info, err := r.bucket.Head(ctx, name)
	if err == nil && info.ModTime.Sub(d.Time).Abs() > maxSkew {
		err = errors.Join(fmt.Errorf("the storage's clock says %v, this one %v", info.ModTime, d.Time), r.bucket.Delete(ctx, name))
	}
	if err != nil {
		return fmt.Errorf("marking packs: %w", err)
	}
	r.log.Info("packs were marked for removal", zap.Int("packs", len(marks)))
	r.st.CondemnAlso(marks)
	return nil
}

// errOvertaken means that a prune has removed, or may have removed by the time
// that the snapshot is seen, what a run relies on.
var errOvertaken = errors.New("a prune has overtaken the run")

// stillThere is asked before a snapshot is published. Packs that were marked
// since the run began are only relied on within half of the grace time; and when
// index objects have been replaced meanwhile (shrinks has changed), what was
// marked may even be gone.
func (r *Repo) stillThere(ctx context.Context, s *Snapshot, shrinks int) error {
	all, err := r.condemn(ctx)
	if err != nil {
		return err
	}
	if err := r.st.Refresh(ctx); err != nil {
		return err
	}
	urgent := r.st.Shrinks() != shrinks
	for _, d := range all {
		urgent = urgent || time.Since(d.Time) > time.Duration(d.Grace)*time.Second/2
	}
	if !urgent {
		return nil
	}
	seen := make(map[chunk.ID]bool)
	there := func(id chunk.ID) error {
		if !r.st.HasAll([]chunk.ID{id}) {
			return errOvertaken
		}
		return nil
	}
	u := &needs{r: r, data: there, dir: func(id chunk.ID) (bool, error) {
		fresh := !seen[id]
		seen[id] = true
		return fresh, there(id)
	}}
	err = u.snapshot(ctx, s)
	if errors.Is(err, ErrNotExist) || errors.Is(err, store.ErrNoChunk) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	return err
}
