package web

import (
	"net/http"
	"testing"
)

func TestViews(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	for _, path := range []string{"/", "/sources", "/snapshots", "/charts", "/gateway", "/activity", "/snapshots/" + s.repo.snaps[3].ID, "/snapshots/" + s.repo.snaps[3].ID + "?path=/Projects/notes.md",
		"/snapshots/" + s.repo.snaps[3].ID + "/search?path=/&q=no"} {
		resp, body := s.get(t, c, path)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s\n%s", path, resp.Status, body)
		}
	}
}
