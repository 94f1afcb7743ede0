package serve_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"coffer/internal/serve"
)

// start serves h and returns the address, a way to stop, and the end.
func start(t *testing.T, h http.Handler, drain time.Duration) (url string, stop func(), ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve.HTTP(ctx, l, &http.Server{Handler: h}, drain) }()
	return "http://" + l.Addr().String(), cancel, done
}

// TestDrain: a request under way when the daemon is told to stop is answered.
func TestDrain(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	url, stop, ended := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		if r.Context().Err() != nil {
			t.Error("the request's context ended while it drained")
		}
		io.WriteString(w, "whole")
	}), time.Minute)
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get(url)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-entered
	stop()
	select {
	case err := <-ended:
		t.Fatalf("ended with a request under way: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	if got := <-answer; got != "whole" {
		t.Errorf("got %q, want the whole answer", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDrainEnds: a client that never leaves does not keep the daemon alive.
func TestDrainEnds(t *testing.T) {
	entered := make(chan struct{})
	url, stop, ended := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), 10*time.Millisecond)
	go func() {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := serve.HTTP(t.Context(), l, &http.Server{}, time.Second); err == nil {
		t.Error("no error for a closed listener")
	}
}
