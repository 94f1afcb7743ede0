package secret

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "credentials"))
	for name, mode := range map[string]fs.FileMode{"good": 0o600, "open": 0o640, "empty": 0o600, "large": 0o600, "credentials/key": 0o440} {
		text := " secret \n"
		switch name {
		case "empty":
			text = "\n"
		case "large":
			text = strings.Repeat("x", maxSize+1)
		}
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ file, want string }{
		{filepath.Join(dir, "good"), ""},
		{filepath.Join(dir, "credentials/key"), ""},
		{"$CREDENTIALS_DIRECTORY/key", ""},
		{"$CREDENTIALS_DIRECTORY/../good", "no such file"}, // a credential is a name
		{filepath.Join(dir, "open"), "lets others read it"},
		{filepath.Join(dir, "empty"), "is empty"},
		{filepath.Join(dir, "large"), "more than"},
		{filepath.Join(dir, "none"), "no such file"},
	} {
		got, err := Read(tt.file)
		if tt.want == "" && (err != nil || got != "secret") || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %q, %v, want %q", tt.file, got, err, tt.want)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := Read("$CREDENTIALS_DIRECTORY/key"); err == nil || !strings.Contains(err.Error(), "systemd gave no credentials") {
		t.Errorf("got %v", err)
	}
}
