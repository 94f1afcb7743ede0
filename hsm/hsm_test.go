package hsm

import (
	"context"
	"testing"
)

const module = "/usr/lib/softhsm/libsofthsm2.so"

// provisioned makes a SoftHSM token of mode and returns how to open it. The PIN
// is a copy each time, since Open wipes it.
func provisioned(tb testing.TB, mode Mode) func() Config {
	tb.Helper()
	pin := NewPIN()
	c := Config{Module: module, TokenLabel: "node", Mode: mode, Durable: tb.TempDir(), RunDir: tb.TempDir()}
	with := func() Config {
		c.PIN = append([]byte(nil), pin...)
		return c
	}
	if err := Provision(context.Background(), with(), nil); err != nil {
		tb.Fatal(err)
	}
	return with
}

func opened_(tb testing.TB, c Config) *Token {
	tb.Helper()
	t, err := Open(context.Background(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := t.Close(); err != nil {
			tb.Error(err)
		}
	})
	return t
}

func TestSmoke(t *testing.T) {
	for _, m := range []Mode{ModeWrapped, ModeTweak, ModeUnseal} {
		c := provisioned(t, m)
		info, steps, err := Check(context.Background(), c())
		t.Log(info, steps, err)
	}
}
