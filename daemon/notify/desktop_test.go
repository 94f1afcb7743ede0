package notify

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// sessionBus starts a real bus and returns its address.
func sessionBus(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// shown plays the desktop.
type shown struct {
	got chan []any
}

func (s shown) Notify(app string, replaces uint32, icon, title, body string, actions []string, hints map[string]dbus.Variant, expires int32) (uint32, *dbus.Error) {
	s.got <- []any{app, title, body, hints["urgency"].Value()}
	return 1, nil
}

// TestDesktop shows a notification over a real bus.
func TestDesktop(t *testing.T) {
	address := sessionBus(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	n, _, _ := begin(t, Config{Desktop: true, Details: true, Host: "laptop"})
	if all := n.Test(t.Context()); !strings.Contains(all[0].Error, "org.freedesktop.Notifications") {
		t.Errorf("without a desktop: %+v", all)
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	desktop := shown{make(chan []any, 10)}
	if err := conn.Export(desktop, "/org/freedesktop/Notifications", "org.freedesktop.Notifications"); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName("org.freedesktop.Notifications", 0); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(r, err)
	}
	n.Tell(notice)
	got := receive(t, desktop.got)
	if got[0] != "coffer" || got[1] != "coffer: a problem with the backups on laptop" || !strings.Contains(got[2].(string), "source letters has not been") || got[3] != byte(2) {
		t.Errorf("got %q", got)
	}
	if strings.ContainsAny(got[2].(string), "<>") {
		t.Errorf("markup in %q", got[2])
	}
}
