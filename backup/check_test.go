package backup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// objects lists what lies upstream, as names to paths in the folder.
func (f *fixture) objects() map[string]string {
	out := make(map[string]string)
	must(f.tb, filepath.WalkDir(f.store, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(f.store, p)
			out[rel] = p
		}
		return err
	}))
	return out
}

func TestCheckSound(t *testing.T) {
	f := newFixture(t)
	f.hostile()
	f.backup()
	f.write("more", random(5, 100<<10))
	f.backup()
	f.loseCache()
	rep, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 || rep.Unused > 0 || rep.Snapshots != 2 || rep.Packs == 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	for o := range f.objects() {
		t.Log(o)
	}
	_ = strings.Join
}
