package serve_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
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

// TestNoneLost: a client that connects while the server is told to stop is
// answered, or finds the socket closed; it never loses a request that was taken.
func TestNoneLost(t *testing.T) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- serve.HTTP(ctx, l, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })}, time.Minute)
		}()
		// Accepted before the end, asked after it.
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + l.Addr().String()) // so the first one is accepted
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		cancel()
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(b), "ok") {
			t.Fatalf("got %q, %v, want an answer", b, err)
		}
		c.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// TestSilentClient: one that connects and says nothing delays the end by a
// moment only.
func TestSilentClient(t *testing.T) {
	url, stop, ended := start(t, http.NotFoundHandler(), time.Minute)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin := time.Now()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("ended after %v", took)
	}
}
