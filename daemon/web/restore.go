package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"coffer/backup"
	"coffer/internal/human"
)

// Folders says where the page may restore to. What it may do is what the daemon
// may: its unit lets it write to few places.
type Folders interface {
	// Suggest gives a folder that is not there, for what lies in a snapshot; note
	// says why it is not beside the source, "" if it is.
	Suggest(s *backup.Snapshot) (dir, note string)
	// Check refuses a folder that the daemon must not, or cannot, write to: with a
	// *daemon.Trouble where something can be done about it.
	Check(dir string) error
}

const (
	maxRestoreTo = 4096 // bytes of a path
	firstLook    = 600 * time.Millisecond
)

// restoreModes are what may become of files that are there.
var restoreModes = []option{
	{"", "Replace nothing"},
	{"never", "Keep what is there, add the rest"},
	{"older", "Replace what is older than in the snapshot"},
	{"changed", "Replace what differs in size or time"},
	{"always", "Replace everything"},
}

// option is a choice of a form.
type option struct{ Value, Text string }

// restoreView is the form for a restore.
type restoreView struct {
	frame
	Action  string
	To      string
	Note    string // why To is what it is
	Problem string // why To cannot be
	Hint    string
	Mode    string
	Modes   []option
	Verify  bool
	Command string // that does the same
}

// restoreForm asks where to, and what may be replaced.
func (w *Web) restoreForm(rw http.ResponseWriter, r *http.Request) {
	w.formOf(rw, r, http.StatusOK, nil)
}

func (w *Web) formOf(rw http.ResponseWriter, r *http.Request, status int, refused error) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	p, ok := w.place(ctx, rw, r)
	if !ok {
		return
	}
	v := restoreView{frame: w.frame(p), Action: p.to("restore", p.path), To: r.FormValue("to"), Mode: r.FormValue("overwrite"), Modes: restoreModes, Verify: r.FormValue("verify") != ""}
	if v.To == "" {
		v.To, v.Note = w.c.Folders.Suggest(p.snapshot)
	}
	if _, known := backup.ParseOverwrite(v.Mode); !known { // it comes from an address, and goes into a command
		v.Mode = ""
	}
	if refused != nil {
		v.Problem, v.Hint = printable(refused.Error()), printable(hint(refused))
	}
	ask := restoreAsk{snapshot: p.snapshot, path: p.path, to: v.To, mode: v.Mode, verify: v.Verify}
	v.Command = ask.command()
	w.render(rw, r, status, "restore", page{Title: "Restore", View: "/snapshots", Body: v})
}

// place is find, for what can be restored.
func (w *Web) place(ctx context.Context, rw http.ResponseWriter, r *http.Request) (place, bool) {
	if w.c.Folders == nil {
		w.fail(rw, r, http.StatusNotFound, "Nothing is restored from this page. \"coffer restore\" does.")
		return place{}, false
	}
	return w.find(ctx, rw, r)
}

// restore begins with a look at what would happen; "do" is "restore" to begin in earnest.
func (w *Web) restore(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	p, ok := w.place(ctx, rw, r)
	if !ok {
		return
	}
	ask := restoreAsk{repo: p.repo, snapshot: p.snapshot, path: p.path, to: strings.TrimSpace(r.PostFormValue("to")), mode: r.PostFormValue("overwrite"),
		verify: r.PostFormValue("verify") != "", pretend: r.PostFormValue("do") != "restore"}
	if _, known := backup.ParseOverwrite(ask.mode); len(ask.to) > maxRestoreTo || !known && ask.mode != "" {
		w.fail(rw, r, http.StatusBadRequest, "This is no way to restore.")
		return
	}
	if err := w.c.Folders.Check(ask.to); err != nil {
		w.formOf(rw, r, http.StatusUnprocessableEntity, err)
		return
	}
	run, err := w.restores.start(ask)
	if err != nil {
		w.fail(rw, r, http.StatusConflict, "A restore is under way. Wait for its end, or stop it.")
		return
	}
	select { // most looks are done at once
	case <-run.finish:
	case <-time.After(firstLook):
	case <-r.Context().Done():
	}
	http.Redirect(rw, r, fmt.Sprintf("/restores/%d", run.id), http.StatusSeeOther)
}

// restoringView is a restore, under way or at its end.
type restoringView struct {
	ID       int
	Name     string // of what is restored
	Snapshot snapshotView
	From, To string
	Run      *progressView // nil: it has ended
	Pretend  bool

	Headline, Tone string
	Details        []string
	Replaced       []string // what is, or would be, replaced
	MoreReplaced   int
	Failed         []fileNote
	MoreFailed     int
	Hint           string

	Action, Path, ToRaw, Mode, Verify, Change string // of the form that begins it in earnest
	MayStart                                  bool
}

// restoring shows one: how far it is, what it would do, or what it has done.
func (w *Web) restoring(rw http.ResponseWriter, r *http.Request) {
	run := w.restoreOf(rw, r)
	if run == nil {
		return
	}
	p := page{Title: "Restore", View: "/snapshots"}
	v := viewRestoring(run, time.Now())
	if v.Run != nil {
		p.Refresh = 2
	}
	p.Body = v
	w.render(rw, r, http.StatusOK, "restoring", p)
}

func (w *Web) restoreOf(rw http.ResponseWriter, r *http.Request) *restoring {
	n, err := strconv.Atoi(r.PathValue("n"))
	run := w.restores.find(n)
	if err != nil || run == nil {
		w.fail(rw, r, http.StatusNotFound, "This restore is not remembered: only the last ones are, until the daemon ends.")
		return nil
	}
	return run
}

func viewRestoring(run *restoring, now time.Time) restoringView {
	a := &run.ask
	pl := place{repo: a.repo, snapshot: a.snapshot, path: a.path}
	v := restoringView{ID: run.id, Name: pl.frame().Name, Snapshot: viewSnapshot(a.snapshot, now), From: pl.to("", a.path), To: printable(a.to), Pretend: a.pretend,
		Action: pl.to("restore", a.path), Path: a.path, ToRaw: a.to, Mode: a.mode}
	extra := []string{"to", a.to, "overwrite", a.mode}
	if a.verify {
		v.Verify = "yes"
		extra = append(extra, "verify", "yes")
	}
	v.Change = pl.to("restore", a.path, extra...)
	progress, report, err := run.look()
	if run.running() {
		v.Headline, v.Tone, v.Run = "Restoring", toneBusy, viewProgress(&progress, now)
		if a.pretend {
			v.Headline = "Looking what would happen"
		}
		return v
	}
	v.ended(a, report, err)
	return v
}

// ended says how it went, or how it would go.
func (v *restoringView) ended(a *restoreAsk, report backup.Report, err error) {
	var replaces *backup.ReplacesError
	switch {
	case errors.As(err, &replaces):
		v.Headline, v.Tone = "Nothing was restored: files would have been replaced", toneWarn
		report.Replaced = replaces.Files
	case errors.Is(err, context.Canceled):
		v.Headline, v.Tone = "Stopped", toneWarn
		v.Details = append(v.Details, "What was restored until then is there. Begin again, and it goes on.")
	case err != nil:
		v.Headline, v.Tone, v.Hint = "Failed: "+printable(err.Error()), toneBad, printable(hint(err))
	case a.pretend:
		v.plan(a, report)
	default:
		v.Headline, v.Tone = "Restored "+plural(report.Files, "file")+", "+human.Size(report.Bytes)+", in "+tookText(report.Took), toneOK
		if a.verify && len(report.Failed) == 0 {
			v.Details = append(v.Details, verifiedText(a.mode, report.Unchanged))
		}
		v.counts(report, "was replaced", "were replaced")
		if n := len(report.Failed); n > 0 {
			v.Headline, v.Tone = v.Headline+"; "+plural(int64(n), "file")+" could not be restored", toneBad
		}
	}
	v.Replaced, v.MoreReplaced = shown(report.Replaced)
	for _, f := range append(report.Failed, report.Warnings...) {
		if len(v.Failed) == maxNotes {
			v.MoreFailed = len(report.Failed) + len(report.Warnings) - maxNotes
			break
		}
		v.Failed = append(v.Failed, fileNote{printable(f.Path), printable(f.Err)})
	}
}

// verifiedText says what was verified. Some modes keep files that differ.
func verifiedText(mode string, kept int64) string {
	if kept > 0 && (mode == "never" || mode == "older") {
		return "All that was restored, and what was there with the size and time that the snapshot has, was read again and is the same as in the snapshot. Other files that were kept were not compared."
	}
	return "All of it was read again and is the same as in the snapshot."
}

// plan says what would happen, and whether it may.
func (v *restoringView) plan(a *restoreAsk, report backup.Report) {
	v.Headline, v.Tone, v.MayStart = plural(report.Files, "file")+", "+human.Size(report.Bytes)+", would be restored", toneOK, true
	switch n := len(report.Replaced); {
	case n > 0 && a.mode == "":
		v.Headline, v.Tone, v.MayStart = "There already, and different: "+plural(int64(n), "file"), toneWarn, false
		v.Details = append(v.Details, "As nothing is to be replaced, nothing would be done. Choose another folder, or what may be replaced.")
		return
	case n > 0:
		v.Tone = toneWarn
	}
	v.counts(report, "would be replaced", "would be replaced")
}

func (v *restoringView) counts(report backup.Report, one, more string) {
	if report.Unchanged > 0 {
		v.Details = append(v.Details, plural(report.Unchanged, "file")+" of these "+are(report.Unchanged)+" there already and "+stay(report.Unchanged)+".")
	}
	switch n := len(report.Replaced); {
	case n == 1:
		v.Details = append(v.Details, "1 file that is there "+one+".")
	case n > 1:
		v.Details = append(v.Details, countText(int64(n))+" files that are there "+more+".")
	}
}

func are(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func stay(n int64) string {
	if n == 1 {
		return "stays"
	}
	return "stay"
}

// shown is a list for people: the first ones, and how many there are beside.
func shown(paths []string) (some []string, more int) {
	for i, p := range paths {
		if i == maxNotes {
			return some, len(paths) - maxNotes
		}
		some = append(some, printable(p))
	}
	return some, 0
}

// lastRestore is the newest one, nil if there was none.
func (w *Web) lastRestore(now time.Time) *restoringView {
	run := w.restores.newest()
	if run == nil {
		return nil
	}
	v := viewRestoring(run, now)
	return &v
}

// restoreState is how far it is, for the script.
func (w *Web) restoreState(rw http.ResponseWriter, r *http.Request) {
	run := w.restoreOf(rw, r)
	if run == nil {
		return
	}
	progress, _, _ := run.look()
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(struct { // a browser that left needs no answer
		Done bool          `json:"done"`
		Run  *progressView `json:"run"`
	}{!run.running(), viewProgress(&progress, time.Now())})
}

func (w *Web) stopRestore(rw http.ResponseWriter, r *http.Request) {
	run := w.restoreOf(rw, r)
	if run == nil {
		return
	}
	run.stop()
	select {
	case <-run.finish:
	case <-time.After(firstLook):
	}
	http.Redirect(rw, r, fmt.Sprintf("/restores/%d", run.id), http.StatusSeeOther)
}

// command is what does the same in a terminal.
func (a *restoreAsk) command() string {
	from := short(a.snapshot.ID)
	if a.path != "/" {
		from += ":" + a.path
	}
	text := "coffer restore " + shellWord(from) + " --to " + shellWord(a.to)
	if a.mode != "" {
		text += " --overwrite " + a.mode
	}
	if a.verify {
		text += " --verify"
	}
	return printable(text)
}

// shellWord is a word of a shell.
func shellWord(s string) string {
	if strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._:-+,@", c))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
