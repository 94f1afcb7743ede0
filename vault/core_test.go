package vault

import (
	"bytes"
	"reflect"
	"testing"
	"testing/synctest"

	"coffer/ppss"
)

// A hostile leader may count a guess whose element is no point, as it may waste any
// guess; no ledger takes it, and no HSM sees it.
func TestElementThatIsNoPointIsNotTaken(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		r := newRig(t, f, "anna")
		b := r.guess()
		b.Element = [33]byte{2, 5: 1} // x has no y
		for ppss.CheckPoint(b.Element) == nil {
			b.Element[32]++
		}
		if a := r.command(KindAttempt, b); a.Code != CodeMalformed {
			t.Fatalf("the leader answers %v", a.Code)
		}
		good := r.guess()
		if a := r.command(KindAttempt, good); a.Code != CodeOK {
			t.Fatalf("attempt: %v", a.Code)
		}
		f.forge("anna", func(a *account) {
			bad := a.Attempts[0]
			a.Seq++
			bad.Seq, bad.ID, bad.Element = a.Seq, b.ID, b.Element
			a.Attempts = append(a.Attempts, bad)
		})
		synctest.Wait()
		for i, n := range f.nodes {
			if used := n.server.tally(c.uid).used(); used != 1 {
				t.Errorf("node %s counts %d, want the good one only", n.id, used)
			}
			if a := r.eval(i, b); a.Code == CodeOK {
				t.Errorf("node %s evaluated what is no point", n.id)
			}
		}
	})
}

// The rows of an account come back as they were, and no part of one is read as a whole.
func TestCoreRow(t *testing.T) {
	p := DefaultPolicy()
	c := core{Seq: 7, Restored: 3, Refilled: 1, Last: 2, Until: 3, Gone: 4, Due: 5, Budget: 10, counted: 4, other: 6,
		current: use{true, Epoch{1}, 9}, former: use{true, Epoch{2}, 8}, rules: p}
	row := c.encode()
	got, err := decodeCore(row)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	short := len(row) - 4*len(p.Delays)
	for n := range row {
		if n >= short && (n-short)%4 == 0 {
			continue // fewer delays
		}
		if _, err := decodeCore(row[:n]); err == nil {
			t.Errorf("%d of %d bytes are read as an account", n, len(row))
		}
	}
	row[0]++
	if _, err := decodeCore(row); err == nil {
		t.Error("a later layout is read")
	}
	a := attempt{Seq: 1, ID: AttemptID{1}, Epoch: Epoch{2}, Element: [33]byte{3}, At: 4, Token: []byte("token")}
	back, err := decodeAttempt(a.ID, a.encode())
	if err != nil || !reflect.DeepEqual(back, a) || !bytes.Equal(back.encode(), a.encode()) {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := decodeAttempt(a.ID, a.encode()[:40]); err == nil {
		t.Error("half an attempt is read")
	}
}
