package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/human"
)

//go:embed templates assets
var files embed.FS

// page is what the frame of every view shows.
type page struct {
	Title   string
	View    string // of the navigation; "" when not signed in
	Problem string // shown above the view
	Refresh int    // seconds after which a browser without script loads it again; 0: never
	Host    string
	Version string
	Body    any
}

// link is an entry of the navigation, or a crumb.
type link struct{ URL, Name, Icon string }

var navigation = []link{
	{"/", "Overview", "overview"},
	{"/sources", "Sources", "sources"},
	{"/snapshots", "Snapshots", "snapshots"},
	{"/charts", "Charts", "charts"},
	{"/protection", "Protection", "shield"},
	{"/gateway", "Gateway", "gateway"},
	{"/activity", "Activity", "activity"},
	{"/doctor", "Doctor", "doctor"},
}

var (
	assets    = loadAssets()
	templates = loadTemplates()
)

// asset is an embedded file with a name that changes with its content, so that
// browsers may keep it for ever.
type asset struct {
	data []byte
	mime string
}

func loadAssets() map[string]asset {
	all := make(map[string]asset)
	for _, name := range names("assets") {
		data, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it was just listed
		}
		all[versioned(name, data)] = asset{data, mime.TypeByExtension(path.Ext(name))}
	}
	return all
}

func versioned(name string, data []byte) string {
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:9]) + "-" + name
}

// assetURL is where the asset of a name is.
func assetURL(name string) (string, error) {
	data, err := files.ReadFile("assets/" + name)
	if err != nil {
		return "", err
	}
	return "/assets/" + versioned(name, data), nil
}

func names(dir string) (all []string) {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		panic(err) // it is embedded
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// loadTemplates parses each view together with the frame and the parts.
func loadTemplates() map[string]*template.Template {
	funcs := template.FuncMap{
		"asset": assetURL, "icon": icon, "nav": func() []link { return navigation },
		"size": human.Size, "count": countText, "show": printable, "plural": plural, "took": tookText, "date": dateText,
	}
	all := make(map[string]*template.Template)
	for _, name := range names("templates") {
		if name == "frame.html" || name == "parts.html" {
			continue
		}
		t := template.New("frame.html").Funcs(funcs)
		all[name[:len(name)-len(".html")]] = template.Must(t.ParseFS(files, "templates/frame.html", "templates/parts.html", "templates/"+name))
	}
	return all
}

// render answers with a view. It is made whole before the first byte goes out.
func (w *Web) render(rw http.ResponseWriter, r *http.Request, status int, view string, p page) {
	st := w.c.Daemon.Status()
	p.Host, p.Version = st.Host, st.Version
	var b bytes.Buffer
	if err := templates[view].Execute(&b, p); err != nil {
		w.log.Error("web: template", zap.String("view", view), zap.Error(err))
		http.Error(rw, "this page could not be made", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.WriteHeader(status)
	_, _ = rw.Write(b.Bytes()) // a browser that left needs no page
}

// fail answers with a page that says what is wrong.
func (w *Web) fail(rw http.ResponseWriter, r *http.Request, status int, text string) {
	w.render(rw, r, status, "problem", page{Title: http.StatusText(status), View: "problem", Body: text})
}

// failRepo answers with what the repository says.
func (w *Web) failRepo(rw http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, daemon.ErrLocked):
		keys, _ := w.passkeys(r.Context(), time.Now())
		w.render(rw, r, http.StatusLocked, "locked", page{Title: "Locked", View: "problem", Body: len(keys) > 0})
	case errors.Is(err, backup.ErrNotExist):
		w.fail(rw, r, http.StatusNotFound, "There is no such snapshot, folder or file.")
	case errors.Is(err, backup.ErrAmbiguous):
		w.fail(rw, r, http.StatusNotFound, "More than one snapshot begins with these digits.")
	case errors.Is(err, backup.ErrCorrupt):
		w.log.Error("web: damaged snapshot", zap.Error(err))
		w.fail(rw, r, http.StatusUnprocessableEntity, "A part of this is damaged in the storage. \"coffer check\" lists what it touches.")
	case errors.Is(err, context.DeadlineExceeded):
		w.fail(rw, r, http.StatusGatewayTimeout, "The storage did not answer in time.")
	case r.Context().Err() != nil: // nobody is there
	default:
		w.log.Warn("web: repository", zap.Error(err))
		w.fail(rw, r, http.StatusBadGateway, "The storage cannot be read at the moment; the log of the daemon says why.")
	}
}

// asset serves an embedded file.
func (w *Web) asset(rw http.ResponseWriter, r *http.Request) {
	a, ok := assets[r.PathValue("name")]
	if !ok {
		http.NotFound(rw, r)
		return
	}
	rw.Header().Set("Content-Type", a.mime)
	rw.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(a.data))
}

// icons are paths in a square of 24, drawn with lines.
var icons = map[string]template.HTML{
	"overview":  `<path d="M3 11.5 12 4l9 7.5M5.5 9.5V20h13V9.5M10 20v-6h4v6"/>`,
	"sources":   `<path d="M3 6.5h6l2 2.5h10v10.5H3z"/>`,
	"snapshots": `<circle cx="12" cy="12" r="8.5"/><path d="M12 7v5l3.5 2"/>`,
	"charts":    `<path d="M4 20V4M4 20h16M8.5 16v-4M13 16V8M17.5 16v-6"/>`,
	"gateway":   `<path d="M4 8h14l-3.5-3.5M20 16H6l3.5 3.5"/>`,
	"activity":  `<path d="M3 12h4l3-7 4 14 3-7h4"/>`,
	"doctor":    `<path d="M5 3.5v5a4 4 0 0 0 8 0v-5M9 12.5v2.5a4.5 4.5 0 0 0 9 0v-2"/><circle cx="18" cy="10.5" r="2"/>`,
	"vault":     `<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><circle cx="12" cy="12" r="3.5"/><path d="M12 8.5V7M12 17v-1.5M15.5 12H17M7 12h1.5"/>`,
	"passkey":   `<circle cx="8" cy="9" r="4.5"/><path d="m11.2 12.2 8.3 8.3M16 17l2.5-2.5"/>`,
	"changes":   `<path d="M8 4v9M3.5 8.5h9M12 19h8.5M5 20 19 4"/>`,
	"restore":   `<path d="M4 5v5h5M4.5 10a8 8 0 1 1-.6 4.5M12 8.5V13l3 2"/>`,
	"filter":    `<path d="M4 5.5h16M7 11.5h10M10 17.5h4"/>`,
	"lock":      `<rect x="5" y="11" width="14" height="9" rx="2"/><path d="M8 11V8a4 4 0 0 1 8 0v3"/>`,
	"unlock":    `<rect x="5" y="11" width="14" height="9" rx="2"/><path d="M8 11V8a4 4 0 0 1 7.6-1.8"/>`,
	"ok":        `<path d="M5 12.5 10 17.5 19 7"/>`,
	"busy":      `<path d="M20 12a8 8 0 1 1-2.4-5.7M20 3.5v4h-4"/>`,
	"warn":      `<path d="M12 4 2.8 20h18.4zM12 10v4.5M12 17.2v.1"/>`,
	"bad":       `<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5v5.5M12 16v.1"/>`,
	"idle":      `<circle cx="12" cy="12" r="8.5"/>`,
	"folder":    `<path d="M3 6.5h6l2 2.5h10v10.5H3z"/>`,
	"file":      `<path d="M6 3.5h8l4 4V20.5H6zM14 3.5v4h4"/>`,
	"other":     `<path d="M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.7l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1"/>`,
	"download":  `<path d="M12 4v11M7.5 11 12 15.5 16.5 11M4.5 19.5h15"/>`,
	"search":    `<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>`,
	"pause":     `<path d="M9 5.5v13M15 5.5v13"/>`,
	"play":      `<path d="M7.5 5v14l11-7z"/>`,
	"upload":    `<path d="M12 16V5M7.5 9 12 4.5 16.5 9M4.5 19.5h15"/>`,
	"cloud":     `<path d="M7 18.5a4.5 4.5 0 0 1-.4-9A6 6 0 0 1 18 11a3.8 3.8 0 0 1-.5 7.5z"/>`,
	"shield":    `<path d="M12 3.5 19 6v6c0 4.3-3 7.3-7 8.5-4-1.2-7-4.2-7-8.5V6z"/><path d="m9 12 2.2 2.2L15.2 10"/>`,
	"exit":      `<path d="M14 4.5H5v15h9M10 12h10.5M17 8.5l3.5 3.5-3.5 3.5"/>`,
}

// icon draws one beside a text that says the same: it is hidden from screen readers.
func icon(name string) (template.HTML, error) {
	body, ok := icons[name]
	if !ok {
		return "", fmt.Errorf("no icon %q", name)
	}
	return `<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">` + body + `</svg>`, nil
}
