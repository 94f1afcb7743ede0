package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
)

// TestConcurrentRecycle evaluates from 16 goroutines in 4 sessions while the
// module is reopened again and again: no wrong answer, no error.
func TestConcurrentRecycle(t *testing.T) {
	c := provisioned(t, ModeWrapped)()
	c.Sessions, c.RecycleOps, c.Wait = 4, 97, time.Minute
	tok := open(t, c)
	rec, public := newKey(t, tok, anna)
	ctx := context.Background()
	first := tok.now
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for n := range 50 {
				r := scalar()
				got, err := tok.Evaluate(ctx, anna, rec, times(t, r, base))
				if err != nil || got != times(t, r, public) {
					t.Errorf("goroutine %d, evaluation %d: %v", g, n, err)
					return
				}
				if n%10 == 0 {
					fresh, _, err := tok.NewKey(ctx, anna)
					if err != nil {
						t.Errorf("new key: %v", err)
						return
					}
					if _, err := tok.Evaluate(ctx, anna, fresh, blinded); err != nil {
						t.Errorf("fresh key: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if tok.now == first {
		t.Error("the module was never reopened")
	}
	if n := len(tok.now.free); n != 4 {
		t.Errorf("%d sessions are idle, want 4", n)
	}
}

// TestBusy: who waits for a session is told in time.
func TestBusy(t *testing.T) {
	c := provisioned(t, ModeWrapped)()
	c.Sessions, c.Wait = 1, 20*time.Millisecond
	tok := open(t, c)
	held, release := make(chan bool), make(chan bool)
	done := make(chan error)
	go func() {
		done <- tok.test(func(*session) error { close(held); <-release; return nil })
	}()
	<-held
	if _, _, err := tok.NewKey(context.Background(), anna); !errors.Is(err, ErrBusy) {
		t.Errorf("no session: %v, want %v", err, ErrBusy)
	}
	if err := tok.SetAnchor(context.Background(), [40]byte{1}); err != nil {
		t.Errorf("an anchor waits for evaluations: %v", err)
	}
	if _, err := tok.Sign(context.Background(), [32]byte{}); err != nil {
		t.Errorf("a signature waits for evaluations: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := tok.NewKey(ctx, anna); !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, want %v and %v", err, ErrBusy, context.Canceled)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, _, err := tok.NewKey(context.Background(), anna); err != nil {
		t.Errorf("released: %v", err)
	}
}

// TestCloseWaits closes the token under 8 goroutines: each operation succeeds
// or says closed. Without the wait SoftHSM is a segmentation fault here.
func TestCloseWaits(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	for range 5 {
		c := config()
		c.Wait = time.Minute
		tok := open(t, c)
		rec, _ := newKey(t, tok, anna)
		var did atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					_, err := tok.Evaluate(context.Background(), anna, rec, blinded)
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("closing: %v", err)
						return
					}
					did.Add(1)
				}
			})
		}
		for did.Load() < 20 {
			time.Sleep(time.Millisecond)
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := tok.Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
	}
}

// TestLost takes the ground from under an open token. Each loss is cured by
// one reopening, from the durable files, and the caller sees nothing.
func TestLost(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	for name, harm := range map[string]func(*Token) error{
		"sessions closed": func(t *Token) error { return t.lib.CloseAllSessions(t.now.root.slot) },
		"logged out":      func(t *Token) error { return t.lib.Logout(t.now.root.h) },
		"finalised":       func(t *Token) error { return t.lib.Finalize() },
		"files removed":   func(t *Token) error { return os.RemoveAll(filepath.Join(t.work.dir, "tokens")) },
		"files emptied": func(t *Token) error {
			return filepath.WalkDir(filepath.Join(t.work.dir, "tokens"), func(p string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() || filepath.Ext(p) != ".object" {
					return err
				}
				return os.Truncate(p, 0)
			})
		},
	} {
		for op, try := range map[string]func(*Token, []byte) error{
			"evaluate": func(t *Token, rec []byte) error {
				_, err := t.Evaluate(context.Background(), anna, rec, blinded)
				return err
			},
			"new key": func(t *Token, _ []byte) error { _, _, err := t.NewKey(context.Background(), anna); return err },
			"sign":    func(t *Token, _ []byte) error { _, err := t.Sign(context.Background(), [32]byte{}); return err },
			"anchor":  func(t *Token, _ []byte) error { return t.SetAnchor(context.Background(), [40]byte{1}) },
		} {
			tok := open(t, config())
			rec, _ := newKey(t, tok, anna)
			if err := harm(tok); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := try(tok, rec); err != nil {
				t.Errorf("%s: %s: %v", name, op, err)
			}
			if err := try(tok, rec); err != nil {
				t.Errorf("%s: %s again: %v", name, op, err)
			}
			if err := tok.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestUnavailable: when the durable token is gone too, operations say so, do
// not log in without pause, and recover when it is back.
func TestUnavailable(t *testing.T) {
	c := provisioned(t, ModeWrapped)()
	tok := open(t, c)
	rec, _ := newKey(t, tok, anna)
	away := c.Durable + ".away"
	if err := errors.Join(os.Rename(c.Durable, away), tok.lib.Finalize()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := tok.Evaluate(context.Background(), anna, rec, blinded); !errors.Is(err, ErrUnavailable) {
			t.Errorf("token away: %v, want %v", err, ErrUnavailable)
		}
	}
	if err := os.Rename(away, c.Durable); err != nil {
		t.Fatal(err)
	}
	tok.at = time.Time{} // as if the pause were over
	if _, err := tok.Evaluate(context.Background(), anna, rec, blinded); err != nil {
		t.Errorf("token back: %v", err)
	}
}

// TestPINRefused: a wrong PIN is tried once, ever.
func TestPINRefused(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	c := config()
	c.PIN = NewPIN()
	if _, err := Open(context.Background(), c); !errors.Is(err, ErrPIN) {
		t.Errorf("wrong PIN: %v, want %v", err, ErrPIN)
	}
	c = config()
	reg := prometheus.NewRegistry()
	c.Metrics = reg
	tok := open(t, c)
	tok.pin = NewPIN() // as if somebody had changed the token's
	if err := tok.lib.Finalize(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := tok.MAC(context.Background(), nil); !errors.Is(err, ErrPIN) {
			t.Errorf("PIN changed: %v, want %v", err, ErrPIN)
		}
		tok.at = time.Time{} // as if any pause were over
	}
	if n := counted(t, reg)["login_failures_total"]; n != 1 {
		t.Errorf("%v logins were tried, want 1", n)
	}
	if !errors.Is(tok.failed, ErrPIN) || tok.now != nil {
		t.Error("the token would log in again")
	}
}

// TestOnePerProcess: a second token would take the library from the first.
func TestOnePerProcess(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	tok := open(t, config())
	if _, err := Open(context.Background(), config()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("second: %v, want %v", err, ErrUnavailable)
	}
	c := config()
	c.Durable = t.TempDir()
	if err := Provision(context.Background(), c, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("provisioning: %v, want %v", err, ErrUnavailable)
	}
	if _, err := tok.MAC(context.Background(), nil); err != nil {
		t.Errorf("first: %v", err)
	}
}

// TestWeakKeysRefused makes tokens whose keys miss one protection each. What a
// template says is read back; what it means is attacked.
func TestWeakKeysRefused(t *testing.T) {
	set := func(as attributes, kind uint, v any) attributes {
		for i, a := range as {
			if a.Type == kind {
				as[i] = attr(kind, v)
			}
		}
		return as
	}
	config := provisioned(t, ModeWrapped) // the weak keys are made in its working copy
	for name, weak := range map[string]func(as attributes) attributes{
		"decrypts":            func(as attributes) attributes { return set(as, pkcs11.CKA_DECRYPT, true) },
		"can be changed":      func(as attributes) attributes { return set(as, pkcs11.CKA_MODIFIABLE, true) },
		"extractable":         func(as attributes) attributes { return set(as, pkcs11.CKA_EXTRACTABLE, true) },
		"not sensitive":       func(as attributes) attributes { return set(as, pkcs11.CKA_SENSITIVE, false) },
		"can be copied":       func(as attributes) attributes { return set(as, pkcs11.CKA_COPYABLE, true) },
		"another mechanism":   func(as attributes) attributes { return set(as, pkcs11.CKA_ALLOWED_MECHANISMS, attr(0, 0x1082).Value) },
		"no unwrap template":  func(as attributes) attributes { return as },
		"no protection given": nil,
	} {
		tok := open(t, config())
		err := tok.test(func(s *session) error {
			id := newID()
			as := s.template(roleWrap, s.k.kwp, 2, id)
			if weak == nil {
				only, free := nested(pkcs11.CKA_UNWRAP_TEMPLATE, unwrapped())
				defer free()
				as = append(as, only)
			} else {
				as = weak(as)
			}
			h, err := s.p.GenerateKey(s.h, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), as)
			if err != nil {
				return err
			}
			err = s.checkKey(h, s.template(roleWrap, s.k.kwp, 2, id))
			if name == "no unwrap template" { // cannot be read back: the probe must find it
				if err != nil {
					return err
				}
				s.k.main[[16]byte(id)], s.k.current = h, [16]byte(id)
				err = s.tryUnwrapAsData()
			}
			if weak == nil && err != nil {
				return fmt.Errorf("a hardened key is refused: %w", err)
			}
			if weak != nil && err == nil {
				return errors.New("a weak key is taken")
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestUnwrapAttack is what an attacker with the PIN tries on a record, through
// the library and past this package.
func TestUnwrapAttack(t *testing.T) {
	tok := open(t, provisioned(t, ModeWrapped)())
	rec, _ := newKey(t, tok, anna)
	r, err := parseRecord(rec)
	if err != nil {
		t.Fatal(err)
	}
	err = tok.test(func(s *session) error {
		h, err := s.p.UnwrapKey(s.h, mechanism(s.k.kwp, nil), s.k.main[r.key], r.wrapped, attributes{
			attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			attr(pkcs11.CKA_TOKEN, false), attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true),
		})
		if err == nil {
			v, err := s.attribute(h, pkcs11.CKA_VALUE)
			return fmt.Errorf("unwrapped as data, %d bytes read, %v", len(v), err)
		}
		if !errors.Is(err, pkcs11.Error(pkcs11.CKR_TEMPLATE_INCONSISTENT)) {
			t.Errorf("refused with %v, want CKR_TEMPLATE_INCONSISTENT", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestHang: a call that hangs in the library, as with an HSM behind a cut
// network, holds its caller as long as he wants, and others not at all.
func TestHang(t *testing.T) {
	c := provisioned(t, ModeWrapped)()
	c.Sessions, c.Wait = 2, 50*time.Millisecond
	tok := open(t, c)
	hang := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := do(ctx, tok, "mac", func(*session) (int, error) { <-hang; return 0, nil })
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging: %v, want %v", err, ErrUnavailable)
	}
	if _, err := tok.MAC(context.Background(), nil); err != nil {
		t.Errorf("the other session: %v", err)
	}
	tok.replace(tok.now, "worn") // must wait for the call, and must not hold us
	if _, err := tok.MAC(context.Background(), nil); !errors.Is(err, ErrBusy) {
		t.Errorf("reopening waits for the call: %v, want %v", err, ErrBusy)
	}
	close(hang)
	for { // the goroutine of replace needs a moment
		if _, err := tok.MAC(context.Background(), nil); err == nil {
			break
		} else if !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
	}
	if n := len(tok.now.quick); n != quickSessions {
		t.Errorf("%d sessions are idle, want %d", n, quickSessions)
	}
}
