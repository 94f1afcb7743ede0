package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestSystemdUser has the daemon run as a person's own unit, with the gateway's
// socket opened by systemd: no request is lost while it restarts.
func TestSystemdUser(t *testing.T) {
	b := boot(t)
	b.must("useradd", "--create-home", "--uid", "4711", "alice")
	b.must("install", "-d", "-o", "alice", "-m", "700", "/srv/alice")
	b.must("systemctl", "start", "dbus.socket", "user@4711.service")
	asAlice := func(script string) string {
		t.Helper()
		return b.sh("alice", "export XDG_RUNTIME_DIR=/run/user/4711; "+script)
	}
	asAlice(`mkdir -p ~/docs ~/.config/systemd/user/coffer.service.d; echo first > ~/docs/file
		printf '[Service]\nReadWritePaths=/srv/alice\nRestartSec=100ms\n' > ~/.config/systemd/user/coffer.service.d/upstream.conf
		coffer setup --upstream folder:/srv/alice/store --source docs=$HOME/docs --digits-file ~/digits --gateway 127.0.0.1:9000 >/dev/null
		systemctl --user daemon-reload
		systemctl --user enable --now coffer-s3.socket coffer.service`)
	asAlice(`test -S $XDG_RUNTIME_DIR/coffer/control.sock; echo second > ~/docs/file; coffer backup >/dev/null; coffer restore latest --to ~/back >/dev/null; cmp ~/docs/file ~/back/file`)
	if got := asAlice(`systemctl --user show --value -p ActiveState,Type coffer.service`); strings.Join(strings.Fields(got), " ") != "notify active" {
		t.Errorf("got %s, want notify active", got)
	}
	stop, answered := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		defer func() { answered <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			out, err := b.try("curl", "-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:9421/")
			if err != nil || out != "403" { // no signature
				t.Errorf("request %d: %v: %s", n, err, out)
				return
			}
			n++
		}
	}()
	for range 3 {
		asAlice(`systemctl --user restart coffer.service`)
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	if n := <-answered; n < 3 {
		t.Errorf("%d requests over 3 restarts", n)
	}
	asAlice(`systemctl --user stop coffer-s3.socket coffer.service`)
}
