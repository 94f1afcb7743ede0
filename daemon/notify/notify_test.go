package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"coffer/daemon"
)

// TestMain makes the pauses between attempts short.
func TestMain(m *testing.M) {
	for i := range retries {
		retries[i] = 20 * time.Millisecond
	}
	os.Exit(m.Run())
}

const canary = "canary-8e1f"

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// request is what the local server was sent.
type request struct {
	path, signature string
	body            []byte
}

// server answers with the statuses in turn, the last one for ever.
func server(t *testing.T, statuses ...int) (url string, got <-chan request) {
	t.Helper()
	requests := make(chan request, 100)
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		status := statuses[0]
		if len(statuses) > 1 {
			statuses = statuses[1:]
		}
		mu.Unlock()
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		requests <- request{r.URL.Path, r.Header.Get("X-Coffer-Signature"), body}
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// events plays the daemon.
type events chan daemon.Event

func (e events) Subscribe(uint64) (<-chan daemon.Event, func()) { return e, func() {} }

// begin runs a notifier until the test ends, when its log must hold no secret.
func begin(t *testing.T, c Config) (*Notifier, events, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	c.Log = zap.New(core)
	n := New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	e := make(events, 10)
	go func() { ended <- n.Run(ctx, e) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, l := range logs.All() {
			if text := fmt.Sprint(l.Message, l.ContextMap()); strings.Contains(text, canary) {
				t.Errorf("a secret is in the log: %s", text)
			}
		}
	})
	return n, e, logs
}

func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

var notice = daemon.Notice{Change: daemon.Began, Problems: []daemon.Problem{{ID: "overdue:letters", Kind: "overdue", Source: "letters",
	Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Text: "source letters has not been backed up for 3 days",
	General: "a source has not been backed up for longer than it may", Hint: "coffer backup letters"}}}

// TestWebhook: the message is signed, comes through a server that is down for a
// while, and names nothing unless it may.
func TestWebhook(t *testing.T) {
	url, got := server(t, 503, 500, 200)
	key := secretFile(t, "key-"+canary)
	c := Config{Host: "laptop", Webhook: Webhook{URLFile: secretFile(t, url+"/hook/"+canary), SecretFile: key}}
	n, _, _ := begin(t, c)
	n.Tell(notice)
	var r request
	for range 3 {
		r = receive(t, got)
	}
	mac := hmac.New(sha256.New, []byte("key-"+canary))
	mac.Write(r.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); r.signature != want || r.path != "/hook/"+canary {
		t.Errorf("signature %s, want %s, at %s", r.signature, want, r.path)
	}
	var m Message
	if err := json.Unmarshal(r.body, &m); err != nil || m.Event != "problem" || len(m.Problems) != 1 || m.Problems[0].Kind != "overdue" || m.Host != "" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, name := range []string{"letters", "laptop"} {
		if strings.Contains(string(r.body), name) {
			t.Errorf("%s is in %s", name, r.body)
		}
	}
	c.Details = true
	n.Reload(c)
	n.Tell(notice)
	if r = receive(t, got); !strings.Contains(string(r.body), "letters") || !strings.Contains(string(r.body), `"host":"laptop"`) {
		t.Errorf("no details in %s", r.body)
	}
	n.Tell(daemon.Notice{Change: daemon.Solved, Problems: notice.Problems})
	if r = receive(t, got); !strings.Contains(string(r.body), `"event":"solved"`) || strings.Contains(string(r.body), "what helps") {
		t.Errorf("got %s", r.body)
	}
}

// TestRefused: an answer that does not change is not asked for again, a redirect
// is not followed, and what is given up is in the log without the address.
func TestRefused(t *testing.T) {
	url, got := server(t, 404, 302, 500)
	n, _, logs := begin(t, Config{Webhook: Webhook{URLFile: secretFile(t, url+"/"+canary)}})
	for range 2 {
		n.Tell(notice)
		if r := receive(t, got); r.path != "/"+canary {
			t.Errorf("asked for %s", r.path)
		}
	}
	n.Tell(notice)
	for range len(retries) + 1 {
		receive(t, got)
	}
	for begin := time.Now(); logs.FilterMessage("notification given up").Len() < 3; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("given up: %v", logs.All())
		}
	}
	if len(got) > 0 {
		t.Errorf("%d more requests", len(got))
	}
}

// TestNeverWaits: a channel that hangs holds nobody up, and the newest messages
// are those that are kept.
func TestNeverWaits(t *testing.T) {
	n := New(Config{Webhook: Webhook{URLFile: secretFile(t, "http://127.0.0.1:1/")}})
	for range 10 * queued {
		n.Tell(notice)
	}
	n.Tell(daemon.Notice{Change: daemon.Solved})
	queue := n.channels[0].queue
	if len(queue) != queued {
		t.Errorf("%d wait, want %d", len(queue), queued)
	}
	var last Message
	for len(queue) > 0 {
		last = <-queue
	}
	if last.Event != "solved" {
		t.Errorf("the newest was dropped: %+v", last)
	}
}

// TestPings: begin, success and failure go to the source's own address, and not
// again for each save of a busy day.
func TestPings(t *testing.T) {
	url, got := server(t, 200)
	_, e, _ := begin(t, Config{Pings: map[string]string{"docs": secretFile(t, url+"/ping/"+canary)}})
	send := func(kind daemon.Kind, source, want string) {
		t.Helper()
		e <- daemon.Event{Kind: kind, Source: source, Error: "secret"}
		if want == "" {
			return
		}
		want = strings.TrimSuffix(want, "-") // the address itself
		if r := receive(t, got); r.path != "/ping/"+canary+want || len(r.body) > 0 {
			t.Errorf("%s: got %s %q, want %s", kind, r.path, r.body, want)
		}
	}
	send(daemon.Started, "docs", "/start")
	send(daemon.Saved, "docs", "-")
	send(daemon.Saved, "docs", "")
	send(daemon.Saved, "other", "")
	send(daemon.Failed, "docs", "/fail")
	send(daemon.Failed, "docs", "")
	send(daemon.Saved, "docs", "-")
	if len(got) > 0 {
		t.Errorf("%d more", len(got))
	}
}

// TestPingRetries: a ping that does not get through is tried again.
func TestPingRetries(t *testing.T) {
	url, got := server(t, 503, 503, 200)
	_, e, _ := begin(t, Config{Pings: map[string]string{"docs": secretFile(t, url)}})
	e <- daemon.Event{Kind: daemon.Saved, Source: "docs"}
	for range 3 {
		receive(t, got)
	}
}

// TestTest: a test tells for each channel whether it works, without the address.
func TestTest(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	url, got := server(t, 200)
	n := New(Config{Webhook: Webhook{URLFile: secretFile(t, url)}, Mail: Mail{Server: "127.0.0.1:1", From: "a@example.org", To: []string{"b@example.org"}}, Desktop: true})
	all := n.Test(t.Context())
	if len(all) != 3 || all[0] != (daemon.Delivery{Channel: "webhook"}) || !strings.Contains(all[1].Error, "connection refused") || !strings.Contains(all[2].Error, "no session bus") {
		t.Errorf("got %+v", all)
	}
	if r := receive(t, got); !strings.Contains(string(r.body), `"event":"test"`) {
		t.Errorf("got %s", r.body)
	}
	n.Reload(Config{Webhook: Webhook{URLFile: secretFile(t, "http://127.0.0.1:1/"+canary)}})
	if all = n.Test(t.Context()); len(all) != 1 || !strings.Contains(all[0].Error, "connection refused") || strings.Contains(all[0].Error, canary) || strings.Contains(all[0].Error, "127.0.0.1:1/") {
		t.Errorf("got %+v", all)
	}
}
