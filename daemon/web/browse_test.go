package web

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"coffer/backup"
)

// at is the URL of a view of a path.
func (s *site) at(view, path string) string {
	return "/snapshots/" + s.repo.snaps[3].ID + view + "?path=" + url.QueryEscape(path)
}

// TestCleanPath: a path leads to what it names or nowhere.
func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"": "/", "/": "/", "a": "/a", "//a///b/": "/a/b", "/...": "/...", "/a\\..\\b": `/a\..\b`, "/%2e%2e": "/%2e%2e", "/caf\xe9": "/caf\xe9",
		"..": "", "/..": "", "/a/../b": "", "../../etc/passwd": "", "/.": "", "/a/.": "", "/a\x00b": "",
	} {
		got, err := cleanPath(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, seed := range []string{"", "/", "a/b", "/a/../b", "//", "\x00", "..", "/caf\xe9/."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := cleanPath(in)
		if err != nil {
			if !errors.Is(err, errPath) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		if again, err := cleanPath(got); again != got || err != nil {
			t.Errorf("%q became %q, and that %q, %v", in, got, again, err)
		}
		for part := range strings.SplitSeq(strings.TrimPrefix(got, "/"), "/") {
			if got[0] != '/' || got != "/" && (part == "" || part == "." || part == "..") {
				t.Errorf("%q became %q", in, got)
			}
		}
	})
}

// TestTraversal: no path leads out of a snapshot, whichever way it is written.
func TestTraversal(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	for _, path := range []string{"../../../etc/passwd", "/../etc/passwd", "/Letters/../../etc/passwd", "/Letters/./to-grandma.txt", "/\x00", "..%2f..%2fetc%2fpasswd", "/etc/passwd"} {
		for _, view := range []string{"", "/file", "/image", "/folder", "/search"} {
			resp, body := s.get(t, c, s.at(view, path)+"&as=zip&q=root")
			if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotFound || strings.Contains(body, "root:") {
				t.Errorf("%s %q: %s", view, path, resp.Status)
			}
		}
	}
	for _, id := range []string{"..", "%2e%2e%2fetc", "0", "latest", strings.Repeat("f", 32), s.repo.snaps[3].ID + "0"} {
		if resp, _ := s.get(t, c, "/snapshots/"+id); resp.StatusCode == http.StatusOK && resp.Request.URL.Path != "/" {
			t.Errorf("snapshot %q: %s", id, resp.Status)
		}
	}
}

// TestNames: what a file is called, and what is in it, stays text.
func TestNames(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	_, body := s.get(t, c, s.at("", "/Letters"))
	for _, bad := range []string{"<img src=x", "\u202e", "\xe9", "caf\n"} {
		if strings.Contains(body, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	if !strings.Contains(body, "&lt;img src=x onerror=alert(1)&gt;") {
		t.Error("the name is not shown")
	}
	for _, name := range []string{evilName, bidiName, brokenName} { // each link leads to its file
		link := s.at("", "/Letters/"+name)
		if !strings.Contains(html.UnescapeString(body), `href="`+link+`"`) {
			t.Errorf("no link to %q as %s", name, link)
		}
		if resp, _ := s.get(t, c, s.at("", "/Letters/"+name)); resp.StatusCode != http.StatusOK {
			t.Errorf("%q: %s", name, resp.Status)
		}
	}
	for _, path := range []string{"/Photos/2026/attack.svg", "/Photos/2026/page.html"} {
		_, body := s.get(t, c, s.at("", path))
		if strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%s is shown as\n%s", path, body)
		}
	}
	_, body = s.get(t, c, s.at("/search", "/")+"&q="+url.QueryEscape(`"><script>`))
	if strings.Contains(body, "<script>") {
		t.Errorf("the query is in the page:\n%s", body)
	}
}

// TestImage: only pictures are sent with a type that browsers show.
func TestImage(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	resp, body := s.get(t, c, s.at("/image", "/Photos/2026/beach.png"))
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "image/png" || body != string(picture()) {
		t.Errorf("got %s, %s, %d bytes", resp.Status, resp.Header.Get("Content-Type"), len(body))
	}
	for _, path := range []string{"/Photos/2026/attack.svg", "/Photos/2026/page.html", "/Projects/notes.md", "/Projects/thesis.pdf"} {
		if resp, _ := s.get(t, c, s.at("/image", path)); resp.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	s.repo.put("/Photos/2026/poly.png", backup.Entry{Type: "file"}, []byte("\x89PNG\x0d\x0a\x1a\x0a<script>alert(1)</script>"))
	if resp, _ := s.get(t, c, s.at("/image", "/Photos/2026/poly.png")); resp.Header.Get("Content-Security-Policy") != sandboxCSP || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a picture with a script: %v", resp.Header)
	}
}

// TestDownload: a file comes back byte for byte, under its name, from any place on.
func TestDownload(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	for path, want := range s.repo.content {
		if e := s.repo.tree[path]; e.Type != "file" || e.Missing {
			continue
		}
		resp, body := s.get(t, c, s.at("/file", path))
		if resp.StatusCode != http.StatusOK || body != string(want) || resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%q: %s, %d bytes of %d, %s", path, resp.Status, len(body), len(want), resp.Header.Get("Content-Type"))
		}
	}
	want := s.repo.content["/Projects/notes.md"]
	for spec, part := range map[string][]byte{"bytes=0-9": want[:10], "bytes=1000-": want[1000:], "bytes=-7": want[len(want)-7:]} {
		resp := s.request(t, "GET", s.at("/file", "/Projects/notes.md"), func(r *http.Request) { r.AddCookie(c); r.Header.Set("Range", spec) })
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusPartialContent || !bytes.Equal(body, part) {
			t.Errorf("%s: %s, %d bytes, %v", spec, resp.Status, len(body), err)
		}
	}
	if resp := s.request(t, "HEAD", s.at("/file", "/Projects/notes.md"), func(r *http.Request) { r.AddCookie(c) }); resp.ContentLength != int64(len(want)) {
		t.Errorf("HEAD says %d bytes", resp.ContentLength)
	}
	for _, path := range []string{"/Projects", "/Projects/latest", "/Projects/locked.db", "/none"} {
		if resp, _ := s.get(t, c, s.at("/file", path)); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// TestAttachment: a name neither ends the header nor chooses a folder.
func TestAttachment(t *testing.T) {
	for name, want := range map[string]string{
		"notes.md": "notes.md", "Grüße.txt": "Grüße.txt", `a"b;c.txt`: `a"b;c.txt`, "../../x": ".._.._x", `..\x`: ".._x", "a\r\nSet-Cookie: x": "a\uFFFD\uFFFDSet-Cookie: x",
		bidiName: "invoice\uFFFDfdp.exe", "caf\xe9": "caf\uFFFD", "": "file", "100%.txt": "100%.txt",
	} {
		header := attachment(name)
		kind, params, err := mime.ParseMediaType(header)
		if err != nil || kind != "attachment" || params["filename"] != want {
			t.Errorf("%q: %s is read as %q, %v, want %q", name, header, params["filename"], err, want)
		}
		if strings.ContainsAny(header, "\r\n") {
			t.Errorf("%q: %q", name, header)
		}
	}
}

// TestBroken: a download that breaks off is not taken for the whole, and the log
// does not name the file.
func TestBroken(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	s := newSite(t, zap.New(core))
	c := s.login(t)
	s.repo.broken = "/Projects/notes.md"
	for _, path := range []string{s.at("/file", "/Projects/notes.md"), s.at("/folder", "/Projects") + "&as=zip", s.at("/folder", "/Projects") + "&as=tar"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(c)
		resp, err := new(http.Transport).RoundTrip(r)
		if err != nil {
			continue // it broke off before the first byte
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s ended as if it was whole", path)
		}
	}
	if logs.Len() == 0 {
		t.Error("nothing is in the log")
	}
	for _, e := range logs.All() {
		if text := e.Message + fieldText(e); strings.Contains(text, "secret-name") || strings.Contains(text, "notes.md") {
			t.Errorf("the log names a file: %s", text)
		}
	}
}

// TestNoNamesInLog: at info the log does not tell what somebody looks at.
func TestNoNamesInLog(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	s := newSite(t, zap.New(core))
	c := s.login(t)
	for _, path := range paths(s) {
		s.get(t, c, path)
	}
	for _, e := range logs.All() {
		if text := e.Message + fieldText(e); strings.Contains(text, "notes") || strings.Contains(text, "beach") || strings.Contains(text, "Photos") || strings.Contains(text, "grandma") {
			t.Errorf("the log tells %s", text)
		}
	}
}

// unpacked is an archive in memory: name to content, folders end with "/".
type unpacked map[string]string

func unzip(t *testing.T, b string) unpacked {
	t.Helper()
	z, err := zip.NewReader(strings.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	all := make(unpacked)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		name := f.Name
		if f.Mode()&fs.ModeSymlink != 0 {
			name += "@"
		}
		all[name] = string(data)
	}
	return all
}

func untar(t *testing.T, b string) unpacked {
	t.Helper()
	all := make(unpacked)
	for r := tar.NewReader(strings.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			all[h.Name+"@"] = h.Linkname
			continue
		}
		all[h.Name] = string(data)
	}
}

// TestFolder: an archive holds what the folder holds, and says what it leaves out.
func TestFolder(t *testing.T) {
	s := newSite(t, nil)
	s.repo.put("/Projects/pipe", backup.Entry{Type: "fifo"}, nil)
	s.repo.put("/Projects/sub", backup.Entry{Type: "dir"}, nil)
	s.repo.put(`/Projects/sub/a\b`, backup.Entry{Type: "file", Mode: 0o4755}, []byte("x"))
	c := s.login(t)
	for as, open := range map[string]func(*testing.T, string) unpacked{"zip": unzip, "tar": untar} {
		resp, body := s.get(t, c, s.at("/folder", "/Projects")+"&as="+as)
		if got := resp.Header.Get("Content-Disposition"); !strings.Contains(got, "Projects-") || !strings.Contains(got, "."+as) {
			t.Errorf("%s: %s", as, got)
		}
		got := open(t, body)
		odd := map[string]string{"zip": "sub/a_b", "tar": `sub/a\b`}[as]
		want := unpacked{"latest@": "notes.md", "notes.md": string(s.repo.content["/Projects/notes.md"]), "thesis.pdf": string(s.repo.content["/Projects/thesis.pdf"]), "sub/": "", odd: "x", leftOut: got[leftOut]}
		for name, data := range want {
			if got[name] != data {
				t.Errorf("%s: %s has %d bytes, want %d", as, name, len(got[name]), len(data))
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s holds %d entries, want %d", as, len(got), len(want))
		}
		if !strings.Contains(got[leftOut], "locked.db") || !strings.Contains(got[leftOut], "pipe: fifo") {
			t.Errorf("%s: left out is %q", as, got[leftOut])
		}
	}
	_, body := s.get(t, c, s.at("/folder", "/Letters")+"&as=tar")
	if got := untar(t, body); got[brokenName] != "not utf-8 name" {
		t.Errorf("a name that is no text is lost in %d entries", len(got))
	}
	for path, want := range map[string]int{s.at("/folder", "/Projects") + "&as=rar": 400, s.at("/folder", "/Projects"): 400, s.at("/folder", "/Projects/notes.md") + "&as=zip": 404} {
		if resp, _ := s.get(t, c, path); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	resp, body := s.get(t, c, s.at("/folder", "/")+"&as=zip")
	if got := unzip(t, body); got["Photos/2026/beach.png"] != string(picture()) || !strings.Contains(resp.Header.Get("Content-Disposition"), s.repo.snaps[3].Source) {
		t.Errorf("the whole snapshot: %d entries, %s", len(got), resp.Header.Get("Content-Disposition"))
	}
}

// TestSearch: by part of a name, wherever it lies below, and no more than a page.
func TestSearch(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	_, body := s.get(t, c, s.at("/search", "/")+"&q=BEACH")
	if !strings.Contains(body, "beach.png") || !strings.Contains(body, "/Photos/2026/") || !strings.Contains(body, "1 name with") {
		t.Errorf("got\n%s", body)
	}
	if _, body := s.get(t, c, s.at("/search", "/Letters")+"&q=beach"); !strings.Contains(body, "0 names with") {
		t.Error("it was found above the folder")
	}
	for i := range maxHits + 5 {
		s.repo.put(fmt.Sprintf("/empty/hit-%03d", i), backup.Entry{Type: "file"}, nil)
	}
	if _, body := s.get(t, c, s.at("/search", "/")+"&q=hit-"); !strings.Contains(body, "there are more") || strings.Count(body, ">hit-") != maxHits {
		t.Errorf("%d hits are shown", strings.Count(body, ">hit-"))
	}
	if resp, _ := s.get(t, c, s.at("/search", "/")+"&q="); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("nothing to search: %s", resp.Status)
	}
}

// TestPages: a folder of thousands and a list of hundreds are cut into pages
// that together show each once.
func TestPages(t *testing.T) {
	s := newSite(t, nil)
	for i := range 2*entryPage + 7 {
		s.repo.put(fmt.Sprintf("/empty/file-%04d", i), backup.Entry{Type: "file"}, nil)
	}
	c := s.login(t)
	seen := make(map[string]int)
	for _, page := range []string{"", "&page=2", "&page=3"} {
		_, body := s.get(t, c, s.at("", "/empty")+page)
		for _, part := range strings.Split(body, ">file-")[1:] {
			seen[part[:4]]++
		}
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("file-%s is there %d times", name, n)
		}
	}
	if len(seen) != 2*entryPage+7 {
		t.Errorf("%d entries, want %d", len(seen), 2*entryPage+7)
	}
	for text, want := range map[string][3]int{"": {0, 2, 0}, "2": {10, 3, 1}, "3": {20, 0, 2}, "4": {0, 2, 0}, "-1": {0, 2, 0}, "x": {0, 2, 0}, "99999999999999999999": {0, 2, 0}} {
		at, next, before := paged(text, 25, 10)
		if got := [3]int{at, next, before}; got != want {
			t.Errorf("page %q: got %v, want %v", text, got, want)
		}
	}
}

func TestOrderForPeople(t *testing.T) {
	all := []backup.Entry{{Name: "b", Type: "file"}, {Name: "A", Type: "file"}, {Name: "z", Type: "dir"}, {Name: "a", Type: "file"}, {Name: "Y", Type: "dir"}}
	slices.SortStableFunc(all, forPeople)
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "Y z A a b" {
		t.Errorf("got %s", got)
	}
}

// TestText: a file that is no text is not shown as one, and a character that the
// cut goes through does not make it none.
func TestText(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "plain\n\ttext\r\n": true, "Grüße": true, "\x1b[31mred": true, "a\x00b": false, "caf\xe9": false, "\x7fELF\x02\x01": false,
		strings.Repeat("a", textPreview-1) + "\xc3": true, strings.Repeat("a", textPreview-9) + "\xff" + strings.Repeat("a", 8): false,
	} {
		if got := isText([]byte(text)); got != want {
			t.Errorf("%.20q: got %v, want %v", text, got, want)
		}
	}
}
