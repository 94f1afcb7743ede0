package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// TestPasskeyNewMachine: with the address of the store and a passkey alone, a new
// machine is set up, unlocked on its page, and restores.
func TestPasskeyNewMachine(t *testing.T) {
	ctx := browse(t)
	do := func(steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(expression string) {
		t.Helper()
		eventually(t, expression, 30*time.Second, func() bool {
			ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
			return ok && err == nil
		})
	}
	page := func(m *machine, path string) {
		t.Helper()
		link := strings.TrimSpace(m.must("coffer", "web", "--print"))
		do(chromedp.Navigate(link))
		wait(`location.pathname === "/" && document.getElementById("headline")`)
		base, _, _ := strings.Cut(link, "/login")
		do(chromedp.Navigate(base + path))
	}
	store := t.TempDir()
	old := newMachine(t)
	want := strings.Repeat("Dear Anna,\n", 5000)
	old.write("files/letter.txt", want)
	old.must("coffer", "setup", "--upstream", "folder:"+store, "--source", "files="+old.path("files"), "--digits-file", old.path("digits"))
	old.must("coffer", "backup")
	old.append("coffer.toml", "\n[web]\nlisten = \""+freeAddress(t)+"\"\n")
	d := old.start("cofferd", "--config", old.path("coffer.toml"))
	answers(t, old)
	page(old, "/protection")
	do(chromedp.SendKeys(chromedp.CSS("#passkey-name"), "blue key"), chromedp.Click(chromedp.CSS("[data-passkey=add] button")))
	wait(`document.querySelector("[data-credential]")`)
	if out := old.must("coffer", "status") + old.must("coffer", "doctor") + old.must("coffer", "passkey", "list"); strings.Count(out, "blue key") != 2 || !strings.Contains(out, "1 passkey can unlock the daemon") {
		t.Errorf("status, doctor and list do not show the passkey:\n%s", out)
	}
	d.abort()

	fresh := newMachine(t)
	_, said, code := fresh.run("coffer", "setup", "--restore", "--upstream", "folder:"+store, "--passkey")
	if code != 0 || !strings.Contains(said, "1 passkey can unlock it:\n  blue key, made ") {
		t.Fatalf("exit status %d:\n%s", code, said)
	}
	text, err := os.ReadFile(fresh.path("coffer.toml"))
	if err != nil || !strings.Contains(string(text), "127.0.0.1:9921") {
		t.Fatalf("no page in the configuration: %v\n%s", err, text)
	}
	fresh.write("coffer.toml", strings.Replace(string(text), "127.0.0.1:9921", freeAddress(t), 1))
	fresh.start("cofferd", "--config", fresh.path("coffer.toml"))
	answers(t, fresh)
	if _, said, code := fresh.run("coffer", "restore", "--to", fresh.path("back")); code != 11 {
		t.Errorf("a command without the key: exit status %d\n%s", code, said)
	}
	page(fresh, "/protection")
	do(chromedp.Click(chromedp.CSS("[data-passkey=unlock] button")))
	wait(`document.querySelector(".state h2").textContent === "Unlocked"`)
	page(fresh, "/snapshots")
	do(chromedp.Click(chromedp.CSS("a.row")))
	wait(`document.querySelector('a[href*="/restore?"]')`)
	do(chromedp.Click(chromedp.CSS(`a[href*="/restore?"]`)))
	wait(`document.getElementById("to")`)
	do(chromedp.SetValue(chromedp.CSS("#to"), fresh.path("back")), chromedp.Click(chromedp.CSS("button[value=look]")))
	wait(`document.querySelector("button[value=restore]")`)
	do(chromedp.Click(chromedp.CSS("button[value=restore]")))
	wait(`document.querySelector(".outcome") && document.querySelector(".outcome").textContent.startsWith("Restored 1 file")`)
	if got, err := os.ReadFile(fresh.path("back", "letter.txt")); err != nil || string(got) != want {
		t.Errorf("restored %d bytes, want %d, %v", len(got), len(want), err)
	}
	if _, err := os.Stat(fresh.path(".local/state/coffer/backup.key")); err == nil {
		t.Error("the key lies on the disk")
	}
}

// answers waits until the daemon of a machine does.
func answers(t *testing.T, m *machine) {
	t.Helper()
	eventually(t, "the page of the daemon", 30*time.Second, func() bool {
		_, _, code := m.run("coffer", "web", "--print")
		return code == 0
	})
}

// browse starts a Chromium with a security key that has PRF.
func browse(t *testing.T) context.Context {
	t.Helper()
	opts := []chromedp.ExecAllocatorOption{chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.UserDataDir(filepath.Join(t.TempDir(), "browser"))}
	for _, name := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		opts = append(opts, chromedp.Flag(name, true))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	_, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{})
	if err == nil {
		_, err = chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportUsb,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, HasPrf: true, AutomaticPresenceSimulation: true,
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}
