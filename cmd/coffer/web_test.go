package main

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const webLink = "http://coffer.localhost:9921/login#ONETIMETOKEN"

// TestWeb: the link that the daemon makes is printed, and is in no process list
// when a browser is started with it.
func TestWeb(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("unix", filepath.Join(r.dir, "daemon.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		if q.Method != "POST" || q.URL.Path != "/v1/login" {
			http.NotFound(rw, q)
			return
		}
		fmt.Fprintf(rw, `{"url":%q}`, webLink)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	file := filepath.Join(r.dir, "c.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = append([]byte(fmt.Sprintf("control = %q\n", l.Addr().String())), text...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.out.Reset()
	r.run(exitOK, "web")
	if got := r.out.String(); got != webLink+"\n" {
		t.Errorf("got %q, want %q", got, webLink)
	}
	r.out.Reset()
	r.run(exitOK, "web", "--numeric", "--json")
	if got := r.out.String(); !strings.Contains(got, `"url": "http://127.0.0.1:9921/login#ONETIMETOKEN"`) {
		t.Errorf("got %q", got)
	}
}

// TestOpenBrowser: the browser gets a file that nobody else reads.
func TestOpenBrowser(t *testing.T) {
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	script := "#!/bin/sh\nprintf '%s' \"$*\" > " + seen + "\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	cache := filepath.Join(dir, "cache")
	if err := openBrowser(t.Context(), cache, webLink); err != nil {
		t.Fatal(err)
	}
	argv, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(cache, "login.html")
	if string(argv) != page {
		t.Errorf("the browser was started with %q, want %q", argv, page)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "url="+webLink) {
		t.Errorf("the file is %s", text)
	}
	if info, err := os.Stat(page); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
