package web

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
)

// Passkey is a WebAuthn credential that opens the backup key. What is here is
// public.
type Passkey struct {
	ID         string
	Name       string
	Credential []byte
	Salt       [32]byte // what the authenticator is asked about
	Created    time.Time
}

// Passkeys keeps them. A secret is what the authenticator answered for the salt.
type Passkeys interface {
	List(ctx context.Context) ([]Passkey, error)
	// Add wraps the backup key; daemon.ErrLocked while it is not there.
	Add(ctx context.Context, p Passkey, secret [32]byte) error
	Remove(ctx context.Context, id string) error
	// Unlock unwraps the backup key and gives it to the daemon. ErrPasskey.
	Unlock(ctx context.Context, id string, secret [32]byte) error
}

// ErrPasskey means that there is no such passkey, or that the secret is not its.
var ErrPasskey = errors.New("web: this passkey does not open the backup key")

// Passkeys are bound to the name of a site; this one belongs to no other program
// of this machine. An address cannot have any.
const passkeyHost = "coffer.localhost"

// elsewhere is the address of the page where its passkeys work, "" here.
func (w *Web) elsewhere(r *http.Request) string {
	host, port, _ := strings.Cut(strings.ToLower(r.Host), ":")
	if host == passkeyHost {
		return ""
	}
	if i := strings.LastIndexByte(port, ':'); i >= 0 { // of [::1]:9921
		port = port[i+1:]
	}
	return "http://" + passkeyHost + ":" + port
}

// secretForm reads 32 bytes of a form.
func secretForm(r *http.Request, name string) (secret [32]byte, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(r.PostFormValue(name))
	ok = err == nil && len(b) == len(secret)
	copy(secret[:], b)
	clear(b)
	return secret, ok
}

// addPasskey, as unlock, is asked by the script: it answers with a line of text.
func (w *Web) addPasskey(rw http.ResponseWriter, r *http.Request) {
	credential, err := base64.RawURLEncoding.Strict().DecodeString(r.PostFormValue("credential"))
	salt, ok := secretForm(r, "salt")
	secret, ok2 := secretForm(r, "secret")
	name := strings.TrimSpace(r.PostFormValue("name"))
	if w.c.Passkeys == nil || err != nil || !ok || !ok2 || name == "" || len(name) > 100 {
		http.Error(rw, "The passkey was not made: the page sent less than it needs.", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	err = w.c.Passkeys.Add(ctx, Passkey{Name: name, Credential: credential, Salt: salt}, secret)
	switch {
	case errors.Is(err, daemon.ErrLocked):
		http.Error(rw, "The backup is locked: unlock it first.", http.StatusLocked)
	case err != nil:
		w.log.Warn("web: passkey not kept", zap.Error(err))
		http.Error(rw, "The passkey was not kept: the storage did not take it. The log of the daemon says why.", http.StatusBadGateway)
	default:
		w.log.Info("web: passkey added")
		rw.WriteHeader(http.StatusNoContent)
	}
}

func (w *Web) unlock(rw http.ResponseWriter, r *http.Request) {
	secret, ok := secretForm(r, "secret")
	if w.c.Passkeys == nil || !ok {
		http.Error(rw, "The page sent less than is needed.", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	switch err := w.c.Passkeys.Unlock(ctx, r.PostFormValue("id"), secret); {
	case errors.Is(err, ErrPasskey):
		w.log.Warn("web: a passkey does not open the backup key")
		http.Error(rw, "This passkey does not open the backup.", http.StatusForbidden)
	case err != nil:
		w.log.Warn("web: unlocking", zap.Error(err))
		http.Error(rw, "The backup could not be unlocked; the log of the daemon says why.", http.StatusBadGateway)
	default:
		rw.WriteHeader(http.StatusNoContent)
	}
}

func (w *Web) removePasskey(rw http.ResponseWriter, r *http.Request) {
	if w.c.Passkeys == nil {
		w.fail(rw, r, http.StatusNotFound, "There is no such passkey.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	switch err := w.c.Passkeys.Remove(ctx, r.PathValue("id")); {
	case errors.Is(err, ErrPasskey):
		w.fail(rw, r, http.StatusNotFound, "There is no such passkey.")
	case err != nil:
		w.log.Warn("web: passkey not removed", zap.Error(err))
		w.fail(rw, r, http.StatusBadGateway, "The passkey was not removed everywhere: the storage did not do it. The log of the daemon says why.")
	default:
		w.log.Info("web: passkey removed")
		http.Redirect(rw, r, "/protection", http.StatusSeeOther)
	}
}

// lock has the daemon forget the key.
func (w *Web) lock(rw http.ResponseWriter, r *http.Request) {
	w.c.Daemon.Lock()
	http.Redirect(rw, r, "/protection", http.StatusSeeOther)
}
