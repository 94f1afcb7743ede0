package main

import (
	"os"
	"testing"
	"time"

	"coffer/internal/config"
	"coffer/upstream"
)

// One of two mirrors is away while the daemon saves; when it is back, the daemon
// brings there what it missed.
func TestMirrors(t *testing.T) {
	m := newMachine(t)
	m.config.Upstreams = append(m.config.Upstreams, config.Upstream{Name: "usb", Type: "folder", Path: m.path("usb")})
	m.writeConfig()
	m.mark(m.path("upstream"))
	m.write("docs/a", "saved while a disk is not there")
	start := time.Now()
	p := m.start()
	p.saved(start)
	if _, err := os.Stat(m.path("usb")); err == nil {
		t.Error("the mirror that is not mounted was made")
	}
	p.stop()
	if b, err := os.ReadFile(m.path("state", "mirrors")); err != nil || len(b) == 0 {
		t.Fatalf("nothing noted as missed: %v", err)
	}
	m.mark(m.path("usb"))
	p = m.start()
	p.logged("mirrors are up to date again")
	p.stop()
	usb, err := upstream.NewFolder(m.path("usb"))
	if err != nil {
		t.Fatal(err)
	}
	defer usb.Close()
	n := 0
	if err := usb.List(t.Context(), "repo/", "", func(upstream.Info) error { n++; return nil }); err != nil || n < 3 {
		t.Errorf("%d objects, %v", n, err)
	}
}

// mark makes a folder one of the store.
func (m *machine) mark(dir string) {
	m.t.Helper()
	b, err := upstream.NewFolder(dir)
	if err != nil {
		m.t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Put(m.t.Context(), "coffer.json", nil, 0, upstream.PutOptions{}); err != nil {
		m.t.Fatal(err)
	}
}
