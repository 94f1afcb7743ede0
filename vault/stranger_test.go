package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// watched counts what a node looks up, and what its HSM computes but for signatures.
type watched struct {
	Log
	HSM
	looks, computes int
}

func (w *watched) View(fn func(KV) error) error { w.looks++; return w.Log.View(fn) }

func (w *watched) Propose(ctx context.Context, cmd []byte) ([]byte, error) {
	w.looks++
	return w.Log.Propose(ctx, cmd)
}

func (w *watched) NewKey(ctx context.Context, owner []byte) ([]byte, [33]byte, error) {
	w.computes++
	return w.HSM.NewKey(ctx, owner)
}

func (w *watched) Evaluate(ctx context.Context, owner, record []byte, blinded [33]byte) ([33]byte, error) {
	w.computes++
	return w.HSM.Evaluate(ctx, owner, record, blinded)
}

// Who has no token for an account gets the same answer whatever he asks and whether
// there is such an account, a destroyed one or none: the same status, headers, size and
// fields. It takes as long: nothing is looked up or computed for it.
func TestStrangersSeeNoDifference(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1, func(m *Manifest) { m.Policy.Deadline = 1 })
		defer f.close()
		f.register(f.client("anna"), "right")
		f.register(f.client("gone"), "right")
		for f.wrong(f.client("gone"), "wrong") > 0 {
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		s := f.nodes[0].server
		w := &watched{Log: s.c.Log, HSM: s.c.HSM}
		s.c.Log, s.c.HSM = w, w
		now := time.Now()
		_, other, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		tokens := map[string]string{
			"none": "", "garbage": "coffer1.AAAA.AAAA", "another account's": IssueToken(f.operator, f.manifest.Fleet, "mallory", now, now.Add(time.Hour)),
			"of another operator": IssueToken(other, f.manifest.Fleet, "anna", now, now.Add(time.Hour)),
			"expired":             IssueToken(f.operator, f.manifest.Fleet, "anna", now.Add(-2*time.Hour), now.Add(-time.Hour)),
		}
		var first string
		asked := 0
		for name, token := range tokens {
			for _, account := range []string{"anna", "gone", "nobody"} {
				uid := AccountUID(f.manifest.Fleet, account)
				for kind, body := range map[Kind]any{
					KindRecord: &RecordBody{uid}, KindStart: &StartBody{UID: uid, Element: randomPoint()}, KindKey: &KeyBody{UID: uid, Element: randomPoint()},
					KindCommit: &CommitBody{UID: uid, Record: []byte{}, Old: []byte{}}, KindReceipt: &ReceiptBody{UID: uid},
					KindAttempt: &AttemptBody{UID: uid, Element: randomPoint()}, KindEval: &EvalBody{UID: uid, Element: randomPoint()},
					KindProve: &ProveBody{UID: uid}, KindDisable: &DisableBody{UID: uid, Sig: []byte{}},
				} {
					r := &Request{Version: version, Kind: kind, Manifest: s.inForce().hash, Token: []byte(token), Body: encode(body)}
					rand.Read(r.Nonce[:])
					hr := httptest.NewRequest(http.MethodPost, "https://n1.test:1"+Path, bytes.NewReader(encode(r)))
					hr.RemoteAddr = "192.0.2.9:1"
					got := httptest.NewRecorder()
					began := time.Now()
					s.ServeHTTP(got, hr)
					asked++
					a := deniedAnswer(t, f, got.Body.Bytes())
					line := fmt.Sprintf("%d %v %d bytes %+v in %v", got.Code, got.Header(), got.Body.Len(), a, time.Since(began))
					if first == "" {
						first = line
					}
					if line != first || a.Code != CodeDenied {
						t.Errorf("token %s, account %s, %s:\n%s\nothers:\n%s", name, account, kindNames[kind], line, first)
					}
				}
			}
		}
		if w.looks != 0 || w.computes != 0 || asked != 5*3*9 {
			t.Errorf("%d lookups and %d computations for %d requests of strangers", w.looks, w.computes, asked)
		}
		// The watch sees what there is to see.
		if _, err := f.client("anna").Status(context.Background()); err != nil || w.looks == 0 {
			t.Errorf("for the owner: %d lookups, %v", w.looks, err)
		}
	})
}

// deniedAnswer reads an answer without what is random in every one.
func deniedAnswer(t *testing.T, f *testFleet, out []byte) Answer {
	t.Helper()
	sg, err := parseSigned(out, f.manifest.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := decode(sg.Answer, &a); err != nil {
		t.Fatal(err)
	}
	a.Request = [32]byte{}
	return a
}
