package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffer/daemon"
)

var errLocked = fmt.Errorf("%w", daemon.ErrLocked)

// TestChanges: the snapshot before is what a snapshot is compared with, unless
// another one is asked for; others are refused; many changes end somewhere.
func TestChanges(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	last := s.repo.snaps[numSnapshots-1] // of documents; before it come photos and documents
	resp, body := s.get(t, c, "/snapshots/"+last.ID+"/changes?path=/")
	before := s.repo.snaps[numSnapshots-3]
	if resp.StatusCode != 200 || !strings.Contains(body, `value="`+before.ID+`" selected`) || strings.Contains(body, s.repo.snaps[numSnapshots-2].ID) {
		t.Errorf("compared with another one: %s", resp.Status)
	}
	for _, want := range []string{"1 added · 1 removed · 1 changed · 1 of another type", "49 kB → 148 kB", "/snapshots/" + before.ID + "?path=%2FLetters%2Fto-grandma.txt"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not there", want)
		}
	}
	first := s.repo.snaps[0]
	if _, body := s.get(t, c, "/snapshots/"+last.ID+"/changes?path=/&from="+first.ID); !strings.Contains(body, `value="`+first.ID+`" selected`) {
		t.Error("the snapshot asked for is not compared with")
	}
	if _, body := s.get(t, c, "/snapshots/"+first.ID+"/changes?path=/"); !strings.Contains(body, "no earlier snapshot") {
		t.Error("the first one has changes")
	}
	for _, other := range []string{"0000", s.repo.snaps[1].ID, last.ID} {
		if resp, _ := s.get(t, c, "/snapshots/"+last.ID+"/changes?path=/&from="+other); resp.StatusCode != 404 {
			t.Errorf("compared with %s: %s", other, resp.Status)
		}
	}
	s.repo.changes = maxChanges
	if _, body := s.get(t, c, "/snapshots/"+last.ID+"/changes?path=/"); !strings.Contains(body, "and more") || strings.Count(body, "<tr>") != maxChanges+1 {
		t.Errorf("%d rows of many", strings.Count(body, "<tr>"))
	}
}

// TestDoctorView: problems of the daemon are there at once, a closer look only when
// somebody asks for it.
func TestDoctorView(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	_, body := s.get(t, c, "/doctor")
	if !strings.Contains(body, "coffer backup mail") || !strings.Contains(body, "2 % of the data read") || !strings.Contains(body, "Restore drill") || strings.Contains(body, "coffer recovery sheet") {
		t.Error("before the look: problems or tasks are not there, or findings are")
	}
	resp := s.request(t, "POST", "/doctor", func(r *http.Request) { r.AddCookie(c) })
	if resp.StatusCode != 303 {
		t.Fatalf("looking: %s", resp.Status)
	}
	if _, body := s.get(t, c, "/doctor"); !strings.Contains(body, "coffer recovery sheet") || strings.Contains(body, evilName) || !strings.Contains(body, "Look again") {
		t.Error("the findings are not there, or not as text")
	}
}

// TestVaultState says what the owner must know of each state of the vault.
func TestVaultState(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		v    Vault
		err  error
		tone string
		say  string
	}{
		"well":       {Vault{Registered: true, Left: 10, Budget: 10, Nodes: []VaultNode{{Name: "a", Holds: true}}}, nil, toneOK, "1 of 1 node answer"},
		"guesses":    {Vault{Registered: true, Left: 8, Budget: 10, Failed: 1, LastFailed: now.Add(-time.Hour)}, nil, toneWarn, "1 wrong password since"},
		"destroyed":  {Vault{Destroyed: true}, nil, toneBad, "destroyed"},
		"unknown":    {Vault{}, nil, toneBad, "no key of this account"},
		"disabled":   {Vault{Registered: true, DisableAt: now.Add(50 * time.Hour)}, nil, toneBad, "ends in 2 days"},
		"degraded":   {Vault{Registered: true, Nodes: []VaultNode{{Name: "a"}}}, nil, toneWarn, "has no part"},
		"node down":  {Vault{Registered: true, Nodes: []VaultNode{{Name: "a", Holds: true, Err: errors.New("refused")}}}, nil, toneWarn, "0 of 1 node answer"},
		"no network": {Vault{}, errors.New("no route"), toneBad, "no route"},
	} {
		w := &Web{vault: lately[Vault]{ask: func(context.Context) (Vault, error) { return tt.v, tt.err }}}
		view := w.vaultState(t.Context(), now, time.Minute)
		if text := fmt.Sprint(*view); view.Tone != tt.tone || !strings.Contains(text, tt.say) {
			t.Errorf("%s: %s %q", name, view.Tone, text)
		}
	}
	if view := new(Web).vaultState(t.Context(), now, 0); view != nil {
		t.Errorf("no vault is %+v", view)
	}
}

// TestLately: a question is asked once a minute, and only while somebody looks; one
// that hangs holds nobody longer than he wants.
func TestLately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		hang := make(chan struct{})
		l := lately[int64]{ask: func(context.Context) (int64, error) { <-hang; return asked.Add(1), nil }}
		if _, at, _ := l.look(t.Context(), time.Now(), time.Second); !at.IsZero() {
			t.Error("an answer out of nothing")
		}
		close(hang)
		synctest.Wait()
		for range 3 {
			if v, at, err := l.look(t.Context(), time.Now(), time.Second); v != 1 || at.IsZero() || err != nil {
				t.Errorf("got %d, %v, %v", v, at, err)
			}
		}
		time.Sleep(healthAge)
		if v, _, _ := l.look(t.Context(), time.Now(), time.Second); v != 1 {
			t.Errorf("waited for a fresh answer: %d", v)
		}
		synctest.Wait()
		if v, _, _ := l.look(t.Context(), time.Now(), 0); v != 2 {
			t.Errorf("got %d", v)
		}
	})
}
