package testminio_test

import (
	"net/http"
	"os"
	"testing"

	"coffer/internal/testminio"
)

// A test that leaves its server running fills the machine of whoever runs it
// often; two tests at once must not pay for two.
func TestStart(t *testing.T) {
	var endpoint, dir string
	t.Run("runs", func(t *testing.T) {
		s := testminio.StartServer(t)
		endpoint, dir = s.Endpoint, s.Dir
		again, access, secret := testminio.Start(t)
		if again != endpoint || access != s.Access || secret != s.Secret {
			t.Errorf("second server %s beside %s", again, endpoint)
		}
		resp, err := http.Get(endpoint + "/bucket")
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("status %d, %v, want 403 for nobody", resp.StatusCode, err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	})
	if _, err := http.Get(endpoint); err == nil {
		t.Error("the server outlives its test")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("data folder is left: %v", err)
	}
}
