package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"coffer/backup"
	"coffer/daemon"
)

// Excludes are the patterns that say what of each source is left out.
type Excludes interface {
	// Patterns gives those of a source; an error is daemon.ErrUnknownSource.
	Patterns(source string) ([]string, error)
	// Look says what they would leave out.
	Look(ctx context.Context, source string, patterns []string) (backup.LeftOut, error)
	// Save writes them to the configuration, which the daemon then follows. A
	// *daemon.Trouble says what to do where it cannot.
	Save(source string, patterns []string) error
}

const (
	lookTime    = 40 * time.Second // a look at a source
	maxPatterns = 12 << 10         // bytes, all together
)

// excludesView is the form for the patterns of a source, and what they do.
type excludesView struct {
	Source   string
	Patterns string // one a line
	Looked   bool
	Left     backup.LeftOut
	Places   []placeView
	More     int64 // places beside these
	Saved    bool
	Hint     string // what to do about the problem
}

// placeView is something that is left out.
type placeView struct {
	Icon, Path  string
	Files, Size int64
}

// excludes shows the patterns of a source.
func (w *Web) excludes(rw http.ResponseWriter, r *http.Request) {
	patterns, err := w.patterns(r)
	if err != nil {
		w.fail(rw, r, http.StatusNotFound, "There is no such source.")
		return
	}
	v := excludesView{Source: r.PathValue("name"), Patterns: strings.Join(patterns, "\n"), Saved: r.FormValue("saved") != ""}
	w.showExcludes(rw, r, http.StatusOK, v, "")
}

func (w *Web) patterns(r *http.Request) ([]string, error) {
	if w.c.Excludes == nil {
		return nil, daemon.ErrUnknownSource
	}
	return w.c.Excludes.Patterns(r.PathValue("name"))
}

func (w *Web) showExcludes(rw http.ResponseWriter, r *http.Request, status int, v excludesView, problem string) {
	w.render(rw, r, status, "excludes", page{Title: "What is left out", View: "/sources", Problem: problem, Body: v})
}

// changeExcludes looks what patterns would leave out, or saves them where "do" is "save".
func (w *Web) changeExcludes(rw http.ResponseWriter, r *http.Request) {
	if _, err := w.patterns(r); err != nil {
		w.fail(rw, r, http.StatusNotFound, "There is no such source.")
		return
	}
	v := excludesView{Source: r.PathValue("name"), Patterns: r.PostFormValue("patterns")}
	if len(v.Patterns) > maxPatterns {
		w.fail(rw, r, http.StatusRequestEntityTooLarge, "These are more patterns than the page takes.")
		return
	}
	var patterns []string
	for line := range strings.Lines(v.Patterns) {
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) != "" {
			patterns = append(patterns, line)
		}
	}
	if r.PostFormValue("do") == "save" {
		w.saveExcludes(rw, r, v, patterns)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookTime)
	defer cancel()
	left, err := w.c.Excludes.Look(ctx, v.Source, patterns)
	if err != nil {
		w.showExcludes(rw, r, http.StatusUnprocessableEntity, v, printable(err.Error()))
		return
	}
	v.Looked, v.Left, v.More = true, left, left.Places-int64(len(left.Biggest))
	for _, p := range left.Biggest {
		icon := "file"
		if p.Dir {
			icon = "folder"
		}
		v.Places = append(v.Places, placeView{icon, printable(p.Path), p.Files, p.Bytes})
	}
	w.showExcludes(rw, r, http.StatusOK, v, "")
}

func (w *Web) saveExcludes(rw http.ResponseWriter, r *http.Request, v excludesView, patterns []string) {
	err := w.c.Excludes.Save(v.Source, patterns)
	if err == nil {
		http.Redirect(rw, r, "/sources/"+v.Source+"/excludes?saved=yes", http.StatusSeeOther)
		return
	}
	if errors.Is(err, daemon.ErrUnknownSource) {
		w.fail(rw, r, http.StatusNotFound, "There is no such source.")
		return
	}
	v.Hint = printable(hint(err))
	w.showExcludes(rw, r, http.StatusUnprocessableEntity, v, "Nothing was changed: "+printable(err.Error()))
}
