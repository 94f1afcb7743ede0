package backup

import (
	"context"

	"coffer/backup/pack"
	"coffer/backup/table"
)

// readTable reads all index objects that list gives, [store.Store.ListIndex] or
// RefreshThen, and returns their names and a table of what
// they say, apart from the store's. Of several places of a chunk it finds one in a
// pack that is not in gone, if there is one. read says where from; bad is told of
// each that does not open.
func (r *Repo) readTable(ctx context.Context, list lister, gone map[pack.Name]bool, read func(context.Context, pack.Name) ([]byte, error),
	bad func(name string, err error) error) (all []pack.Name, t *table.Table, err error) {
	err = list(ctx, func(_ map[pack.Name]bool, names []pack.Name) error {
		all, t = names, r.st.NewTable()
		err := r.st.EachIndex(ctx, names, read, bad, func(_ pack.Name, x *pack.Index) error {
			for _, rec := range x.Records {
				t.SetGone(t.Add(rec), gone[rec.Name])
			}
			return nil
		})
		if err != nil {
			t.Close()
		}
		return err
	})
	return all, t, err
}

// lister calls fn with the names of the index objects, perhaps again and again.
type lister func(ctx context.Context, fn func(before map[pack.Name]bool, names []pack.Name) error) error

// refuse is told of an index object that does not open by those who need all.
func refuse(_ string, err error) error { return err }
