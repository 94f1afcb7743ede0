package notify

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"
)

// sendDesktop shows a message on the desktop of the user whom the daemon runs as,
// by org.freedesktop.Notifications on the session's bus.
func sendDesktop(ctx context.Context, m Message) error {
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if dir := os.Getenv("XDG_RUNTIME_DIR"); address == "" && dir != "" {
		address = "unix:path=" + filepath.Join(dir, "bus")
	}
	if address == "" {
		return &refused{errors.New("no desktop: there is no session bus")}
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("asking the desktop: %w", err)
	}
	defer conn.Close()
	title, body, _ := strings.Cut(m.Text, "\n")
	urgency := byte(1)
	if m.Event == "problem" || m.Event == "reminder" {
		urgency = 2 // stays until it is seen
	}
	call := conn.Object("org.freedesktop.Notifications", "/org/freedesktop/Notifications").CallWithContext(ctx,
		"org.freedesktop.Notifications.Notify", 0, "coffer", uint32(0), "drive-harddisk", title, html.EscapeString(body),
		[]string{}, map[string]dbus.Variant{"urgency": dbus.MakeVariant(urgency)}, int32(-1))
	if call.Err != nil {
		return fmt.Errorf("asking the desktop: %w", call.Err)
	}
	return nil
}
