package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
	"coffer/vault"
)

// The exit statuses, which contain restic's. New ones may come; an unknown one
// is a failure.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitIncomplete  = 3   // done, but some files could not be read or written
	exitNoStore     = 10  // no backups there, or this machine is not set up for any
	exitLocked      = 11  // the backup key is not in memory
	exitWrongKey    = 12  // wrong password or digits
	exitNoVault     = 13  // the vault is unreachable, or too few of its nodes are
	exitTooSoon     = 14  // the vault takes the next attempt later
	exitDestroyed   = 15  // no attempts left: the vault has destroyed its key
	exitCorrupt     = 16  // something is not what was written
	exitTemporary   = 75  // the storage is unavailable; try again
	exitConfig      = 78  // the configuration is wrong
	exitInterrupted = 130 // by a signal
)

// errIncomplete ends a run that did what could be done. What could not has been
// told before.
var errIncomplete = errors.New("some files could not be read or written")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// digitsHint helps with digits that cannot be read.
const digitsHint = "the file or sheet has 16 groups of 4 digits, 0 to 9 and a to f; spaces and dashes do not matter"

// hinted is an error with a line that says what to do.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func hint(err error, text string) error { return hinted{err, text} }

// statuses maps what packages return to exit statuses and hints; the first that
// fits counts.
var statuses = []struct {
	is   error
	code int
	hint string
}{
	{context.Canceled, exitInterrupted, ""},
	{errIncomplete, exitIncomplete, ""},
	{errUnwell, exitFailed, "what mends it stands beside each line"},
	{errFound, exitCorrupt, ""},
	{errProblems, exitCorrupt, "what no line names can be restored; another upstream or an older snapshot may have the rest"},
	{vault.ErrDestroyed, exitDestroyed, `the 64 digits still open the backups, if you have them: "coffer recover --digits-file FILE"`},
	{vault.ErrUnavailable, exitNoVault, "no attempt was counted; try again when the vault's nodes are up"},
	{vault.ErrNotRegistered, exitFailed, "check --account and --vault-fleet, or use the 64 digits: --digits-file"},
	{vault.ErrDenied, exitFailed, "ask the vault's operator for a token: --vault-token-file"},
	{vault.ErrExpired, exitConfig, "no node shows a newer one: the vault's operator has to renew it; the 64 digits open the backups without the vault"},
	{vault.ErrManifest, exitConfig, "compare --vault-root with what the vault's operator published"},
	{vault.ErrInconsistent, exitCorrupt, "no attempt was counted; tell the vault's operator"},
	{keyring.ErrLocked, exitLocked, `"coffer recover" gets the key back`},
	{daemon.ErrLocked, exitLocked, `"coffer recover" gets the key back`},
	{daemon.ErrUnknownSource, exitUsage, `"coffer status" lists the sources`},
	{daemon.ErrNoPage, exitFailed, "put listen = \"127.0.0.1:9921\" under [web] into the configuration and restart cofferd"},
	{daemon.ErrNotRunning, exitFailed, `"systemctl --user start coffer" starts it, or "cofferd"`},
	{daemon.ErrNotOwner, exitFailed, "run coffer as the user whom the daemon runs as"},
	{keyring.ErrWrongPassword, exitWrongKey, `no attempt was spent: the vault was not asked; "coffer password change" sets a new one, without the old`},
	{keyring.ErrNoCheck, exitFailed, `it does once the password was set or used here: "coffer password change" sets a new one, without the old`},
	{backup.ErrResticPassword, exitWrongKey, "restic takes it from --password-file or $RESTIC_PASSWORD; give it in a file: --password-file FILE"},
	{backup.ErrResticNotExist, exitNoStore, "give the folder that holds \"config\", or s3:https://HOST/BUCKET[/PREFIX]"},
	{backup.ErrResticCorrupt, exitCorrupt, "\"restic check\" says more"},
	{keyring.ErrNoStore, exitNoStore, `"coffer setup" begins, "coffer recover" goes on with what an earlier machine stored`},
	{keyring.ErrProfile, exitCorrupt, "somebody changed coffer.json in the store: do not trust that store before you know who"},
	{keyring.ErrVersion, exitFailed, "use a newer coffer"},
	{seal.ErrKey, exitWrongKey, "the key is not that of the store: compare --upstream and the digits; if the store got a new key, \"coffer recover\" takes it, and \"coffer rekey\" goes on with one that was interrupted"},
	{seal.ErrVersion, exitFailed, "use a newer coffer"},
	{seal.ErrCorrupt, exitCorrupt, "the storage lost or changed bytes"},
	{backup.ErrCorrupt, exitCorrupt, "the storage lost or changed bytes"},
	{backup.ErrVersion, exitFailed, "use a newer coffer"},
	{backup.ErrNoSnapshot, exitFailed, `"coffer snapshots" lists them`},
	{backup.ErrAmbiguous, exitUsage, `give more of the id: "coffer snapshots" lists them`},
	{upstream.ErrDamaged, exitCorrupt, "the storage lost or changed bytes"},
	{upstream.ErrUnavailable, exitTemporary, "try again; nothing is lost"},
	{upstream.ErrFull, exitFailed, "make room in the storage"},
}

// explain gives the exit status of err and what the user could do.
func explain(err error) (code int, text string) {
	var (
		usage   usageError
		h       hinted
		wrong   *vault.WrongPassword
		soon    *vault.TooSoon
		weak    *keyring.WeakPassword
		conf    *config.Error
		say     string
		withTip = errors.As(err, &h)
	)
	code = exitFailed
	switch {
	case err == nil:
		return exitOK, ""
	case errors.As(err, &usage):
		code, say = exitUsage, ""
	case errors.As(err, &wrong) && wrong.Left <= 0:
		code, say = exitDestroyed, "that was the last attempt: the vault destroys its key; the 64 digits still open the backups"
	case errors.As(err, &wrong) && wrong.RetryAfter > 0:
		code, say = exitWrongKey, fmt.Sprintf("the next attempt is taken in %v; the 64 digits open the backups, too", wrong.RetryAfter.Round(time.Second))
	case errors.As(err, &wrong):
		code, say = exitWrongKey, "after the last attempt the vault destroys its key; the 64 digits open the backups, too"
	case errors.As(err, &soon):
		code, say = exitTooSoon, "it was not counted; the 64 digits open the backups, too"
	case errors.As(err, &weak):
		say = "take four or more random words, or let a password manager make it"
	case errors.As(err, &conf):
		code = exitConfig
	default:
		for _, s := range statuses {
			if errors.Is(err, s.is) {
				code, say = s.code, s.hint
				break
			}
		}
	}
	if withTip {
		say = h.hint
	}
	return code, say
}

// failure is an error in JSON.
type failure struct {
	Error        string     `json:"error"`
	Hint         string     `json:"hint,omitempty"`
	Code         int        `json:"code"`
	AttemptsLeft *int       `json:"attempts_left,omitempty"`
	RetryAfter   *time.Time `json:"retry_after,omitempty"`
	Counted      *bool      `json:"counted,omitempty"` // whether an attempt was spent
}

// finish tells the user of err and returns the exit status.
func (a *app) finish(err error) int {
	code, tip := explain(err)
	a.tellMissed()
	if err == nil {
		return code
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if !a.json {
		a.errorLines(err, tip)
		return code
	}
	f := failure{Error: err.Error(), Hint: tip, Code: code}
	var wrong *vault.WrongPassword
	var soon *vault.TooSoon
	no, yes := false, true
	switch {
	case errors.As(err, &wrong):
		at := time.Now().Add(wrong.RetryAfter).UTC().Truncate(time.Second)
		f.AttemptsLeft, f.RetryAfter, f.Counted = &wrong.Left, &at, &yes
	case errors.As(err, &soon):
		at := time.Now().Add(soon.RetryAfter).UTC().Truncate(time.Second)
		f.AttemptsLeft, f.RetryAfter, f.Counted = &soon.Left, &at, &no
	case errors.Is(err, vault.ErrUnavailable):
		f.Counted = &no
	}
	if err := json.NewEncoder(a.err).Encode(f); err != nil {
		return exitFailed
	}
	return code
}

// notSetUp explains a configuration that is not there.
func notSetUp(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w on this machine: %w", keyring.ErrNoStore, err)
	}
	return err
}
