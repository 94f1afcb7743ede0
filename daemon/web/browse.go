package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"coffer/backup"
	"coffer/internal/human"
)

const (
	entryPage   = 500 // entries of a folder on a view
	maxHits     = 200
	searchTime  = 15 * time.Second
	textPreview = 64 << 10 // bytes
	maxImage    = 32 << 20 // bytes
	maxQuery    = 200      // bytes of what is searched for
)

// place is a path in a snapshot, and the way to what is there.
type place struct {
	repo     Repo
	snapshot *backup.Snapshot
	path     string // absolute, clean
	entry    backup.Entry
}

var errPath = errors.New("web: not a path in a snapshot")

// cleanPath refuses a path with "." or ".." in it: a snapshot has no such names,
// and nobody is to rely on what they would mean.
func cleanPath(name string) (string, error) {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "":
			continue
		case ".", "..":
			return "", errPath
		}
		if strings.IndexByte(part, 0) >= 0 {
			return "", errPath
		}
		parts = append(parts, part)
	}
	return "/" + strings.Join(parts, "/"), nil
}

// find leads to the snapshot and the path of a request, or answers it.
func (w *Web) find(ctx context.Context, rw http.ResponseWriter, r *http.Request) (place, bool) {
	name, err := cleanPath(r.FormValue("path"))
	if err != nil {
		w.fail(rw, r, http.StatusBadRequest, "This is no path in a snapshot.")
		return place{}, false
	}
	repo, all, err := w.list(ctx)
	s, ambiguous := pick(all, r.PathValue("id"))
	switch {
	case ambiguous:
		err = backup.ErrAmbiguous
	case s == nil && err == nil:
		err = backup.ErrNotExist
	case s != nil:
		p := place{repo: repo, snapshot: s, path: name}
		if p.entry, err = repo.Stat(ctx, s, name); err == nil {
			return p, true
		}
	}
	w.failRepo(rw, r, err)
	return place{}, false
}

// pick finds the one snapshot whose id begins so.
func pick(all []*backup.Snapshot, id string) (found *backup.Snapshot, ambiguous bool) {
	if len(id) < 8 {
		return nil, false
	}
	for _, s := range all {
		if strings.HasPrefix(s.ID, id) {
			if found != nil {
				return nil, true
			}
			found = s
		}
	}
	return found, false
}

// to is the URL of another view of a path in this snapshot: "" is the folder or
// file itself.
func (p place) to(view, path string, extra ...string) string {
	q := url.Values{"path": {path}}
	for i := 0; i+1 < len(extra); i += 2 {
		q.Set(extra[i], extra[i+1])
	}
	if view != "" {
		view = "/" + view
	}
	return "/snapshots/" + p.snapshot.ID + view + "?" + q.Encode()
}

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

// entryView is a line of a folder.
type entryView struct {
	Name, URL, Icon string
	Where           string // of a hit: the folder it is in
	Size            string
	Time            stamp
	Note            string
}

func (p place) view(path string, e backup.Entry, now time.Time) entryView {
	v := entryView{Name: printable(e.Name), URL: p.to("", path), Icon: "other", Time: moment(e.ModTime, now, "")}
	switch e.Type {
	case "dir":
		v.Icon = "folder"
	case "file":
		v.Icon, v.Size = "file", human.Size(e.Size)
	case "symlink":
		v.Note = "→ " + printable(e.Target)
	default:
		v.Note = e.Type
	}
	if e.Missing {
		v.Note = "could not be read"
	} else if e.Changed {
		v.Note = "changed while it was read"
	}
	return v
}

// frame is what every view of a snapshot shows.
type frame struct {
	Snapshot snapshotView
	Crumbs   []link
	Path     string // as it is, for forms
	Name     string
	Search   string // URL of the search
	Changes  string // URL of what changed
	Restore  string // URL of the form that restores it; "": it cannot be
	Query    string
}

func (p place) frame() frame {
	f := frame{Snapshot: viewSnapshot(p.snapshot, time.Now()), Path: p.path, Name: printable(p.snapshot.Source), Search: "/snapshots/" + p.snapshot.ID + "/search", Changes: p.to("changes", p.path)}
	f.Crumbs = []link{{p.to("", "/"), printable(p.snapshot.Source), ""}}
	at := ""
	for part := range strings.SplitSeq(strings.Trim(p.path, "/"), "/") {
		if part == "" {
			continue
		}
		at += "/" + part
		f.Crumbs = append(f.Crumbs, link{p.to("", at), printable(part), ""})
		f.Name = printable(part)
	}
	return f
}

// frame is that of a place, with what the page may do there.
func (w *Web) frame(p place) frame {
	f := p.frame()
	if w.c.Folders != nil {
		f.Restore = p.to("restore", p.path)
	}
	return f
}

// browse shows a folder or a file of a snapshot.
func (w *Web) browse(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	p, ok := w.find(ctx, rw, r)
	if !ok {
		return
	}
	if !p.entry.Dir() {
		w.showFile(ctx, rw, r, p)
		return
	}
	var entries []backup.Entry
	err := p.repo.List(ctx, p.snapshot, p.path, func(e backup.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		w.failRepo(rw, r, err)
		return
	}
	slices.SortStableFunc(entries, forPeople)
	at, next, before := paged(r.FormValue("page"), len(entries), entryPage)
	var rows []entryView
	now := time.Now()
	for _, e := range entries[at:min(at+entryPage, len(entries))] {
		rows = append(rows, p.view(join(p.path, e.Name), e, now))
	}
	base := "/snapshots/" + p.snapshot.ID
	w.render(rw, r, http.StatusOK, "folder", page{Title: "Snapshot " + short(p.snapshot.ID), View: "/snapshots", Body: struct {
		frame
		Entries      []entryView
		Total        int
		Zip, Tar     string
		Next, Before string
		Missing      bool
	}{
		w.frame(p), rows, len(entries), p.to("folder", p.path, "as", "zip"), p.to("folder", p.path, "as", "tar"),
		pageURL(base, url.Values{"path": {p.path}}, next), pageURL(base, url.Values{"path": {p.path}}, before), p.entry.Missing,
	}})
}

// forPeople orders folders first, then by name without regard to case.
func forPeople(a, b backup.Entry) int {
	if a.Dir() != b.Dir() {
		if a.Dir() {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Name, b.Name))
}

func (w *Web) showFile(ctx context.Context, rw http.ResponseWriter, r *http.Request, p place) {
	body := struct {
		frame
		Entry    entryView
		Mode     string
		Owner    string
		Size     int64
		Image    string
		Text     string
		IsText   bool
		Cut      bool
		Download string
		Why      string // there is no preview
	}{frame: w.frame(p), Entry: p.view(p.path, p.entry, time.Now()), Mode: fs.FileMode(p.entry.Mode & 0o777).String(), Size: p.entry.Size,
		Owner: fmt.Sprintf("%d:%d", p.entry.UID, p.entry.GID)}
	head, err := p.head(ctx)
	switch {
	case p.entry.Type != "file" || p.entry.Missing:
		body.Why = "There is nothing to show or to download: " + body.Entry.Note + "."
	case err != nil:
		w.failRepo(rw, r, err)
		return
	default:
		body.Download = p.to("file", p.path)
		switch kind := imageType(head); {
		case kind != "" && p.entry.Size <= maxImage:
			body.Image = p.to("image", p.path)
		case kind == "" && isText(head):
			body.Text, body.IsText, body.Cut = preview(head), true, p.entry.Size > textPreview
		default:
			body.Why = "No preview for this kind of file."
		}
	}
	w.render(rw, r, http.StatusOK, "file", page{Title: body.Name, View: "/snapshots", Body: body})
}

// head is the beginning of a file.
func (p place) head(ctx context.Context) ([]byte, error) {
	if p.entry.Type != "file" || p.entry.Missing {
		return nil, nil
	}
	f, err := p.repo.ReadFile(ctx, p.snapshot, p.path, 0, textPreview)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, textPreview))
}

// imageType is the type of a picture that browsers show without running any of
// it, by its content; "" for all else, SVG too.
func imageType(head []byte) string {
	switch t := http.DetectContentType(head); t {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return t
	}
	return ""
}

func isText(head []byte) bool {
	if len(head) == textPreview { // a character may have been cut
		for i := 0; i < utf8.UTFMax && len(head) > 0 && !utf8.Valid(head); i++ {
			head = head[:len(head)-1]
		}
	}
	return utf8.Valid(head) && !bytes.ContainsFunc(head, func(c rune) bool {
		return c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != '\x1b'
	})
}

// preview is text line by line, without what deceives the eye.
func preview(head []byte) string {
	lines := strings.Split(strings.ToValidUTF8(string(head), ""), "\n")
	for i, l := range lines {
		parts := strings.Split(strings.TrimSuffix(l, "\r"), "\t")
		for j := range parts {
			parts[j] = printable(parts[j])
		}
		lines[i] = strings.Join(parts, "\t")
	}
	return strings.Join(lines, "\n")
}

// search looks for names below a folder.
func (w *Web) search(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), searchTime)
	defer cancel()
	p, ok := w.find(ctx, rw, r)
	if !ok {
		return
	}
	query := strings.TrimSpace(r.FormValue("q"))
	body := struct {
		frame
		Hits []entryView
		More string // why there may be more
	}{frame: w.frame(p)}
	body.Query = query
	if query == "" || len(query) > maxQuery {
		http.Redirect(rw, r, p.to("", p.path), http.StatusSeeOther)
		return
	}
	enough := errors.New("enough")
	want, now := strings.ToLower(query), time.Now()
	err := p.repo.Walk(ctx, p.snapshot, p.path, func(path string, e backup.Entry) error {
		if path == p.path || !strings.Contains(strings.ToLower(e.Name), want) {
			return nil
		}
		if len(body.Hits) == maxHits {
			return enough
		}
		v := p.view(path, e, now)
		v.Where = printable(strings.TrimSuffix(path, "/"+e.Name) + "/")
		body.Hits = append(body.Hits, v)
		return nil
	})
	switch {
	case errors.Is(err, enough):
		body.More = fmt.Sprintf("These are the first %d; there are more.", maxHits)
	case errors.Is(err, context.DeadlineExceeded):
		body.More = "This took too long, so not all of the snapshot was searched."
	case err != nil:
		w.failRepo(rw, r, err)
		return
	}
	w.render(rw, r, http.StatusOK, "search", page{Title: "Search", View: "/snapshots", Body: body})
}
