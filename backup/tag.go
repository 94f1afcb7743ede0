package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"coffer/backup/pack"
	"coffer/backup/store"
	"coffer/upstream"
)

// TagOptions say which snapshots get which tags: those of IDs, or if there are
// none, all of Host and Source.
type TagOptions struct {
	IDs          []string // beginnings of ids
	Host, Source string   // only snapshots of these; empty: of all
	Set          []string // in place of all tags; not nil: Add and Remove are not looked at
	Add, Remove  []string
}

// Tagged is a snapshot that got other tags, and with them another id.
type Tagged struct {
	Before string   `json:"before"` // its id until now
	ID     string   `json:"id"`     // its id from now on
	Tags   []string `json:"tags"`   //
}

// Tag changes the tags of snapshots. Objects never change, so a snapshot with
// other tags is a new object, of the next generation, whose id follows from the
// first one: of two machines that tag the same one only one can write it, and the
// other then tags the result. Of several generations only the newest is listed, so
// nobody sees none or two, and the older ones are removed when it is durable.
func (r *Repo) Tag(ctx context.Context, o TagOptions) ([]Tagged, error) {
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("tagging: %w", err)
	}
	var chosen []*Snapshot
	if len(o.IDs) > 0 {
		var rep ForgetReport
		if err := rep.byID(all, o.IDs); err != nil {
			return nil, fmt.Errorf("tagging: %w", err)
		}
		chosen = rep.Removed
	} else {
		for _, s := range all {
			if (o.Host == "" || s.Host == o.Host) && (o.Source == "" || s.Source == o.Source) {
				chosen = append(chosen, s)
			}
		}
	}
	done := []Tagged{}
	for _, s := range chosen {
		next, err := r.retag(ctx, s, &o)
		if err != nil {
			return done, fmt.Errorf("tagging snapshot %.8s: %w", s.ID, err)
		}
		if next != s {
			done = append(done, Tagged{s.ID, next.ID, next.Tags})
		}
	}
	return done, nil
}

// retag returns the snapshot that has the tags asked for: s if it has them, else
// the one that took its place.
func (r *Repo) retag(ctx context.Context, s *Snapshot, o *TagOptions) (_ *Snapshot, err error) {
	for range maxRetags {
		tags := o.tags(s.Tags)
		if slices.Equal(tags, s.Tags) {
			return s, r.retire(ctx, s)
		}
		next := *s
		next.Tags, next.generation, next.replaced = tags, s.generation+1, nil
		if next.writer, err = r.writerID(); err != nil {
			return nil, err
		}
		n := tagged(next.first, next.generation)
		next.ID = n.String()
		if err := r.putSnapshot(ctx, n, &next); err != nil && !errors.Is(err, upstream.ErrExists) {
			return nil, err
		}
		// Another machine may have been faster: then its snapshot gets the tags.
		all, err := r.Snapshots(ctx)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(x *Snapshot) bool { return x.first == s.first })
		if i < 0 {
			return nil, fmt.Errorf("another machine has removed it: %w", ErrNoSnapshot)
		}
		s = all[i]
	}
	return nil, errors.New("others tag it all the time: try again")
}

const maxRetags = 100

// retire removes the snapshots whose place s took.
func (r *Repo) retire(ctx context.Context, s *Snapshot) error {
	if len(s.replaced) == 0 {
		return nil
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return err
	}
	var gone []*Snapshot
	for _, id := range s.replaced {
		gone = append(gone, &Snapshot{ID: id})
	}
	if err := r.publishHead(ctx, all, gone); err != nil {
		return err
	}
	return r.removeSnapshots(ctx, s.replaced)
}

// removeSnapshots removes the objects of snapshots.
func (r *Repo) removeSnapshots(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if err := r.bucket.Delete(ctx, store.SnapshotDir+id); err != nil {
			return fmt.Errorf("removing snapshot %.8s: %w", id, err)
		}
	}
	return nil
}

// tags are the tags that come of before, sorted, each once; nil if there are none.
func (o *TagOptions) tags(before []string) []string {
	all := slices.Concat(before, o.Add)
	if o.Set != nil {
		all = slices.Clone(o.Set)
	} else {
		all = slices.DeleteFunc(all, func(t string) bool { return slices.Contains(o.Remove, t) })
	}
	for i := range all {
		all[i] = utf8(all[i])
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == 0 {
		return nil
	}
	return all
}

// tagged is the name of a snapshot by the name that it had first and by how many
// times its tags were changed since.
func tagged(first pack.Name, generation uint64) pack.Name {
	b := append([]byte("coffer snapshot generation v1"), first[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, generation))
	return pack.Name(sum[:len(first)])
}

// hideReplaced leaves out snapshots of which a newer generation is there, and notes
// them with that one: who removes it removes them first.
func hideReplaced(all []*Snapshot) []*Snapshot {
	newest := make(map[pack.Name]*Snapshot, len(all))
	for _, s := range all {
		if n := newest[s.first]; n == nil || n.generation < s.generation {
			newest[s.first] = s
		}
	}
	return slices.DeleteFunc(all, func(s *Snapshot) bool {
		n := newest[s.first]
		if n != s {
			n.replaced = append(n.replaced, s.ID)
		}
		return n != s
	})
}
