package proxy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestAdmission: one too many waits for a place, and not for ever.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := make(admission, 1)
		leave, err := a.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := a.enter(t.Context()); !errors.Is(err, errSlowDown) || time.Since(start) != maxWait {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := a.enter(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that went: %v", err)
		}
		time.AfterFunc(time.Second, leave)
		leave, err = a.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if len(a) != 0 {
			t.Errorf("%d places are still taken", len(a))
		}
	})
}
