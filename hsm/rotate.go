package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"coffer/internal/durable"

	"github.com/miekg/pkcs11"
)

// RecordKey returns the id of the token key that record was made under, for
// counting what still needs an old key. It does not check the record's MAC.
func RecordKey(rec []byte) (id [16]byte, err error) {
	r, err := parseRecord(rec)
	if err != nil {
		return id, err
	}
	return r.key, nil
}

// Rotate gives the token a new key for new records and returns its id. Records
// of the old keys stay good until [Retire]: re-wrapping them would need keys
// that can leave the token, so they are replaced as their owners register anew.
// A node that has the token open uses the new key from its next opening on.
// c.PIN is kept.
func Rotate(ctx context.Context, c Config) (id [16]byte, err error) {
	err = c.maintain(ctx, func(s *session) error {
		newest, err := s.newest(s.k.mode.mainRole())
		if err != nil {
			return err
		}
		if err := s.makeMain(s.k.mode, newest+1); err != nil {
			return err
		}
		if s.k, err = s.loadKeys(); err != nil {
			return err
		}
		id = s.k.current
		return fit(s.probe())
	})
	if err != nil {
		return id, fmt.Errorf("hsm: rotating the key: %w", err)
	}
	return id, nil
}

// Retire destroys the key with that id and with it every record made under it,
// for ever on a real HSM; on SoftHSM, until somebody brings back old files. It
// refuses the key that new records are made under. c.PIN is kept.
func Retire(ctx context.Context, c Config, id [16]byte) error {
	err := c.maintain(ctx, func(s *session) error {
		if _, ok := s.k.main[id]; !ok || id == s.k.current {
			return errors.New("no such key, or new records are made under it")
		}
		found, err := s.objects()
		if err != nil {
			return err
		}
		for _, o := range found {
			if o.id != id {
				continue
			}
			if err := s.p.DestroyObject(s.h, o.h); err != nil {
				return fmt.Errorf("destroying key %s%s-%d: %w", labelPrefix, o.role, o.number, err)
			}
		}
		s.k, err = s.loadKeys()
		return err
	})
	if err != nil {
		return fmt.Errorf("hsm: retiring a key: %w", err)
	}
	return nil
}

// newest returns the highest number of a role.
func (s *session) newest(role string) (int, error) {
	found, err := s.objects()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, o := range found {
		if o.role == role {
			n = max(n, o.number)
		}
	}
	return n, nil
}

// maintain runs fn on the logged-in token and makes what it changed durable.
func (c Config) maintain(ctx context.Context, fn func(*session) error) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !process.TryLock() {
		return fmt.Errorf("%w: this process has a token open", ErrUnavailable)
	}
	defer process.Unlock()
	lib, err := load(c.Module)
	if err != nil {
		return err
	}
	if c.Durable == "" {
		return c.maintainKeys(lib, fn)
	}
	return c.maintainSoft(func() error { return c.maintainKeys(lib, fn) })
}

func (c *Config) maintainKeys(lib *pkcs11.Ctx, fn func(*session) error) (err error) {
	s, err := openModule(lib, c.TokenLabel, c.PIN)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, (&opened{root: s}).close()) }()
	if s.k, err = s.loadKeys(); err != nil {
		return err
	}
	return fn(s)
}

// maintainSoft lets change work on a copy of the durable token and then puts
// the copy in its place: all of it, or, whatever happens, nothing.
func (c *Config) maintainSoft(change func() error) error {
	dir, err := os.Open(c.Durable)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another process maintains %s: %w", c.Durable, err)
	}
	old, err := readMeta(c.Durable)
	if err != nil {
		return err
	}
	work, err := newWorkCopy(c.RunDir)
	if err != nil {
		return err
	}
	defer work.remove()
	if err := work.fill(c.Durable); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(old.Dir, tokensPrefix))
	if err != nil {
		return fmt.Errorf("%s names the folder %q", metaName, old.Dir)
	}
	if err := work.install(c.Durable, tokensPrefix+strconv.Itoa(n+1), c.TokenLabel); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(c.Durable, old.Dir)), durable.SyncDir(c.Durable))
}
