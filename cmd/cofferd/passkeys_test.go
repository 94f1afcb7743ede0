package main

import (
	"bytes"
	"encoding/base64"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
)

// post sends a form of the page.
func (v *visitor) post(path string, status int, fields ...string) string {
	v.t.Helper()
	form := make(url.Values)
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	resp, err := v.http.PostForm(v.base+path, form)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		v.t.Errorf("%s: %s, want %d, %v\n%s", path, resp.Status, status, err, b)
	}
	return string(b)
}

// visit signs in to the page.
func (p *process) visit() *visitor {
	p.m.t.Helper()
	p.until("answer", func(daemon.Status) bool { return true })
	p.logged("local page")
	link, err := p.LoginURL(p.m.t.Context())
	if err != nil {
		p.m.t.Fatal(err)
	}
	return newVisitor(p.m.t, link)
}

// TestPasskeyUnlocks: what a passkey wrapped opens the store on a machine whose key
// is gone and whose copies too; a removed passkey opens nothing.
func TestPasskeyUnlocks(t *testing.T) {
	m := newMachine(t)
	m.config.Web = config.Web{Listen: "127.0.0.1:0"}
	m.writeConfig()
	m.write("docs/letter.txt", "dear grandma")
	m.putProfile()
	p := m.start()
	p.saved(time.Time{})
	v := p.visit()
	secret := base64.RawURLEncoding.EncodeToString([]byte("thirty-two canary bytes of a PRF"))
	salt := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	v.post("/passkeys", http.StatusNoContent, "name", "blue key", "credential", "AAEC", "salt", salt, "secret", secret)
	v.post("/passkeys", http.StatusBadGateway, "name", "again", "credential", "AAEC", "salt", salt, "secret", secret)
	if body := v.get("/gateway", http.StatusOK); !strings.Contains(body, "No program has made a bucket yet") {
		t.Errorf("the gateway is shown as\n%s", body)
	}
	p.stop()

	for _, gone := range []string{"state/backup.key", "state/passkeys"} {
		if err := os.RemoveAll(m.path(gone)); err != nil {
			t.Fatal(err)
		}
	}
	p = m.start()
	v = p.visit()
	body := v.get("/protection", http.StatusOK)
	if !strings.Contains(body, "Locked") || !strings.Contains(body, "blue key") || strings.Contains(body, secret) {
		t.Errorf("locked, the page shows\n%s", body)
	}
	_, id, _ := strings.Cut(body, `data-id="`)
	id, _, _ = strings.Cut(id, `"`)
	v.post("/unlock", http.StatusForbidden, "id", id, "secret", salt)
	if st, err := p.Status(t.Context()); err != nil || !st.Locked {
		t.Errorf("a wrong secret unlocked it: %v", err)
	}
	v.post("/unlock", http.StatusNoContent, "id", id, "secret", secret)
	start := time.Now()
	m.write("docs/letter.txt", "dear grandma, again")
	p.saved(start)
	m.restored("docs")
	if _, err := os.Stat(m.path("state/backup.key")); err == nil {
		t.Error("the key lies on the disk again")
	}
	v.post("/passkeys/"+id+"/remove", http.StatusOK)
	v.post("/lock", http.StatusOK)
	v.post("/unlock", http.StatusForbidden, "id", id, "secret", secret)
	p.stop()
	key := m.key.Bytes()
	files := 0
	err := walkFiles(m.dir, func(path string, data []byte) {
		files++
		if strings.Contains(path, keyring.PasskeyPrefix) {
			t.Errorf("left behind: %s", path)
		}
		if bytes.Contains(data, key[:]) || bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte("canary bytes")) {
			t.Errorf("%s holds the key or the secret", path)
		}
	})
	if err != nil || files < 5 {
		t.Errorf("%d files looked at, %v", files, err)
	}
}

func walkFiles(dir string, fn func(path string, data []byte)) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		fn(path, data)
		return err
	})
}
