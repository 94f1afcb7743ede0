package power

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// supplies makes a folder as the kernel shows it.
func supplies(t *testing.T, all map[string]map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, files := range all {
		for file, text := range files {
			path := filepath.Join(dir, name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestBattery(t *testing.T) {
	battery := func(level, status string) map[string]string {
		return map[string]string{"type": "Battery", "capacity": level, "status": status}
	}
	mouse := map[string]string{"type": "Battery", "capacity": "3", "status": "Discharging", "scope": "Device"}
	off, on := map[string]string{"type": "Mains", "online": "0"}, map[string]string{"type": "Mains", "online": "1"}
	for _, tt := range []struct {
		name string
		all  map[string]map[string]string
		want string
	}{
		{"server", nil, ""},
		{"plugged in", map[string]map[string]string{"AC": on, "BAT0": battery("5", "Charging")}, ""},
		{"enough", map[string]map[string]string{"AC": off, "BAT0": battery("20", "Discharging")}, ""},
		{"low", map[string]map[string]string{"AC": off, "BAT0": battery("19", "Discharging")}, "on battery, 19 %"},
		{"two", map[string]map[string]string{"AC": off, "BAT0": battery("4", "Discharging"), "BAT1": battery("20", "Unknown")}, "on battery, 12 %"},
		{"a mouse", map[string]map[string]string{"AC": on, "hid": mouse}, ""},
		{"a mouse at a server", map[string]map[string]string{"hid": mouse}, ""},
		{"no adapter is known", map[string]map[string]string{"BAT0": battery("9", "Discharging")}, "on battery, 9 %"},
		{"nonsense", map[string]map[string]string{"BAT0": battery("much", "Discharging")}, ""},
	} {
		w := New(Config{Battery: 20, Supplies: supplies(t, tt.all)})
		if got := w.Hold(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	low := supplies(t, map[string]map[string]string{"BAT0": battery("9", "Discharging")})
	w := New(Config{Supplies: low})
	if got := w.Hold(); got != "" {
		t.Errorf("never was asked for, got %q", got)
	}
	w.Reload(Config{Battery: 101, Supplies: low})
	if got := w.Hold(); got != "on battery, 9 %" {
		t.Errorf("got %q", got)
	}
}

// TestMetered asks a NetworkManager of our own over a real bus.
func TestMetered(t *testing.T) {
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
	c := Config{Metered: true, Supplies: t.TempDir(), Bus: strings.TrimSpace(address)}
	w := New(c)
	if got := w.Hold(); got != "" {
		t.Errorf("without NetworkManager: %q", got)
	}
	conn, err := dbus.Connect(c.Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	metered := &prop.Prop{Value: uint32(0), Writable: true, Emit: prop.EmitFalse}
	props, err := prop.Export(conn, "/org/freedesktop/NetworkManager", prop.Map{"org.freedesktop.NetworkManager": {"Metered": metered}})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName("org.freedesktop.NetworkManager", 0); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(r, err)
	}
	for state, want := range []string{"", "metered network", "", "metered network", ""} { // unknown, yes, no, guessed yes, guessed no
		props.SetMust("org.freedesktop.NetworkManager", "Metered", uint32(state))
		w.Reload(c)
		if got := w.Hold(); got != want {
			t.Errorf("%d: got %q, want %q", state, got, want)
		}
	}
	props.SetMust("org.freedesktop.NetworkManager", "Metered", uint32(1))
	c.Metered = false
	w.Reload(c)
	if got := w.Hold(); got != "" {
		t.Errorf("not asked for, got %q", got)
	}
}
