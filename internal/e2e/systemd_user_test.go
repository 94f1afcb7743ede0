package e2e

import (
	"html"
	"regexp"
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
		printf '[web]\nlisten = "127.0.0.1:9921"\n' >> ~/.config/coffer/coffer.toml
		systemctl --user daemon-reload
		systemctl --user enable --now coffer-s3.socket coffer.service`)
	asAlice(`test -S $XDG_RUNTIME_DIR/coffer/control.sock; echo second > ~/docs/file; coffer backup >/dev/null; coffer restore latest --to ~/back >/dev/null; cmp ~/docs/file ~/back/file`)
	if got := asAlice(`systemctl --user show --value -p ActiveState,Type coffer.service`); strings.Join(strings.Fields(got), " ") != "notify active" {
		t.Errorf("got %s, want notify active", got)
	}
	b.restoresByPage(asAlice)
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

// restoresByPage has the page restore under the unit's sandbox: into the folder
// that it suggests, which is the daemon's own, and into the home only where a
// drop-in opens it, as the page says.
func (b *booted) restoresByPage(asAlice func(string) string) {
	b.t.Helper()
	const curl = `page=http://127.0.0.1:9921; ask() { curl -sS --max-time 60 -b ~/jar -c ~/jar "$@"; }; `
	form := asAlice(curl + `link=$(coffer web --print); ask -o /dev/null -d token="${link#*#}" $page/login
		ask -L "$page/snapshots/$(coffer --json snapshots | grep -o '"id": *"[0-9a-f]*"' | tail -1 | grep -o '[0-9a-f]\{16,\}')/restore?path=/" | tee ~/form`)
	own := regexp.MustCompile(`value="(/home/alice/.local/state/coffer/restored/restored-docs-[0-9-]+)"`).FindStringSubmatch(form)
	action := regexp.MustCompile(`action="(/snapshots/[^"]+/restore[^"]+)"`).FindStringSubmatch(form)
	if own == nil || action == nil || !strings.Contains(form, "The daemon may write to few places only") {
		b.t.Fatalf("the form does not suggest a folder of the daemon:\n%s", form)
	}
	post := func(to string) string {
		b.t.Helper()
		return asAlice(curl + `ask -L -d do=restore --data-urlencode to=` + to + ` "$page` + action[1] + `"`)
	}
	if out := html.UnescapeString(post("/home/alice/restored")); !strings.Contains(out, `systemctl --user edit coffer.service, add the lines "[Service]" and "ReadWritePaths=/home/alice/restored", and restart it`) {
		b.t.Errorf("where the unit forbids to write, the page says\n%s", out)
	}
	if out := html.UnescapeString(asAlice(curl + `ask -d do=save -d 'patterns=*.bak' $page/sources/docs/excludes`)); !strings.Contains(out, "In a terminal: coffer source excludes docs --add '*.bak'") {
		b.t.Errorf("where the configuration is read-only, the page says\n%s", out)
	}
	if out := post(own[1]); !strings.Contains(out, "Restored 1 file") {
		b.t.Errorf("into its own folder:\n%s", out)
	}
	asAlice(`cmp ~/docs/file ` + own[1] + `/file; test ! -e ~/restored`)
	asAlice(`mkdir ~/restored; printf '[Service]\nReadWritePaths=/home/alice/restored\n' > ~/.config/systemd/user/coffer.service.d/restore.conf
		systemctl --user daemon-reload; systemctl --user restart coffer.service; ` + curl + `link=$(coffer web --print); ask -o /dev/null -d token="${link#*#}" $page/login`)
	if out := post("/home/alice/restored"); !strings.Contains(out, "Restored 1 file") {
		b.t.Errorf("with what the page said done:\n%s", out)
	}
	asAlice(`cmp ~/docs/file ~/restored/file; rm ~/.config/systemd/user/coffer.service.d/restore.conf; systemctl --user daemon-reload; systemctl --user restart coffer.service`)
}
