package backup

import "testing"

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
}
