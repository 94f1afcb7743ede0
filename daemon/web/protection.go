package web

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Vault is what the vault says of the owner's account, and of its nodes.
type Vault struct {
	Name       string
	Registered bool
	Destroyed  bool
	Left       int       // attempts
	Budget     int       // attempts after a success
	Failed     int       // wrong ones since the last success
	LastFailed time.Time // zero: none
	DisableAt  time.Time // somebody asked to end the account, without the password; zero: nobody
	Nodes      []VaultNode
}

// VaultNode is one node of the vault.
type VaultNode struct {
	Name, Operator, HSM string
	Holds               bool          // takes part in the account
	Took                time.Duration // its answer
	Err                 error         // why it does not answer, or what is wrong
}

// vaultView is the vault as the page shows it.
type vaultView struct {
	Name, State, Tone string
	Left              string
	Notes             []string
	Nodes             []nodeView
}

type nodeView struct{ Name, Operator, HSM, State, Tone string }

// vaultState describes the vault; nil when the key is in none.
func (w *Web) vaultState(ctx context.Context, now time.Time, wait time.Duration) *vaultView {
	if w.vault.ask == nil {
		return nil
	}
	v, at, err := w.vault.look(ctx, now, wait)
	switch {
	case at.IsZero():
		return &vaultView{State: "asking …", Tone: toneIdle}
	case err != nil:
		return &vaultView{State: "does not answer: " + printable(err.Error()), Tone: toneBad}
	}
	view := &vaultView{Name: printable(v.Name), Left: fmt.Sprintf("%d of %d", v.Left, v.Budget), Tone: toneOK}
	answer := 0
	for _, n := range v.Nodes {
		nv := nodeView{Name: printable(n.Name), Operator: printable(n.Operator), HSM: printable(n.HSM), State: "answers in " + tookText(n.Took), Tone: toneOK}
		switch {
		case n.Err != nil:
			nv.State, nv.Tone = printable(n.Err.Error()), toneBad
		case !n.Holds && v.Registered:
			nv.State, nv.Tone = "has no part of your key; \"coffer password change\" gives it one", toneWarn
		}
		if n.Err == nil {
			answer++
		}
		if nv.Tone != toneOK {
			view.Tone = toneWarn
		}
		view.Nodes = append(view.Nodes, nv)
	}
	view.State = fmt.Sprintf("%d of %s answer", answer, plural(int64(len(v.Nodes)), "node"))
	view.account(v, now)
	return view
}

// account says what stands between the owner and his key.
func (view *vaultView) account(v Vault, now time.Time) {
	switch {
	case v.Destroyed:
		view.Tone, view.Left = toneBad, "none"
		view.Notes = append(view.Notes, "The key in the vault was destroyed after too many wrong passwords. This machine has it still: \"coffer password change\" puts it back.")
	case !v.Registered:
		view.Tone, view.Left = toneBad, "–"
		view.Notes = append(view.Notes, "The vault has no key of this account. \"coffer setup\" puts it there.")
	case v.Failed > 0:
		view.Tone = toneWarn
		view.Notes = append(view.Notes, fmt.Sprintf("%s since the last right one, the last %s. Was it you?", plural(int64(v.Failed), "wrong password"), moment(v.LastFailed, now, "at an unknown time").Text))
	}
	if !v.DisableAt.IsZero() {
		view.Tone = toneBad
		view.Notes = append(view.Notes, "Somebody asked to end this account without its password; it ends "+moment(v.DisableAt, now, "").Text+". Your password stops that: \"coffer recover\".")
	}
}

// passkeyView is one passkey. Credential and Salt are for the script.
type passkeyView struct {
	Passkey
	Shown            string
	Made             stamp
	Credential, Salt string // base64url
}

// protection shows how the backup key is kept, and what opens it.
func (w *Web) protection(rw http.ResponseWriter, r *http.Request) {
	now := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	salt := make([]byte, 32)
	rand.Read(salt)
	keys, problem := w.passkeys(ctx, now)
	w.render(rw, r, http.StatusOK, "protection", page{Title: "Protection", View: "/protection", Problem: problem, Body: struct {
		Locked   bool
		Methods  []methodView
		Vault    *vaultView
		Passkeys []passkeyView
		CanAdd   bool
		Salt     string
		Here     string // the page's address where passkeys work; "" if it is this one
	}{w.c.Daemon.Status().Locked, w.methods(), w.vaultState(ctx, now, firstWait), keys, w.c.Passkeys != nil, base64.RawURLEncoding.EncodeToString(salt), w.elsewhere(r)}})
}

func (w *Web) passkeys(ctx context.Context, now time.Time) (views []passkeyView, problem string) {
	if w.c.Passkeys == nil {
		return nil, ""
	}
	all, err := w.c.Passkeys.List(ctx)
	if err != nil {
		w.log.Warn("web: passkeys", zap.Error(err))
		return nil, "The passkeys cannot be read at the moment; the log of the daemon says why."
	}
	for _, p := range all {
		views = append(views, passkeyView{p, printable(p.Name), moment(p.Created, now, ""),
			base64.RawURLEncoding.EncodeToString(p.Credential), base64.RawURLEncoding.EncodeToString(p.Salt[:])})
	}
	return views, ""
}
