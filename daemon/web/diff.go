package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"coffer/backup"
	"coffer/internal/human"
)

const (
	maxChanges = 500 // shown
	maxOthers  = 100 // snapshots to compare with
)

// changeView is one path that differs.
type changeView struct {
	entryView
	Tone, What string
	Size       string
}

var changeNames = map[string]struct{ what, count, tone string }{
	"added": {"added", "added", toneOK}, "removed": {"removed", "removed", toneBad}, "content": {"changed", "changed", toneBusy},
	"metadata": {"attributes", "with other attributes", toneIdle}, "type": {"another type", "of another type", toneWarn},
}

// otherView is a snapshot that can be compared with.
type otherView struct {
	ID, Name string
	Chosen   bool
}

var errEnough = errors.New("enough changes")

// diff shows what changed below a folder since an earlier snapshot of the source:
// the one before, or the one of the form value "from".
func (w *Web) diff(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	p, ok := w.find(ctx, rw, r)
	if !ok {
		return
	}
	_, all, err := w.list(ctx)
	if err != nil && len(all) == 0 {
		w.failRepo(rw, r, err)
		return
	}
	body := struct {
		frame
		From    string
		Others  []otherView
		Changes []changeView
		Counts  []string
		Enough  bool
	}{frame: w.frame(p)}
	from := earlier(all, p.snapshot, r.FormValue("from"), &body.Others)
	if from == nil && r.FormValue("from") != "" {
		w.fail(rw, r, http.StatusNotFound, "There is no such snapshot of this source.")
		return
	}
	if from != nil {
		body.From = dateText(from.Time)
		counts := make(map[string]int64)
		err := p.repo.Diff(ctx, from, p.snapshot, p.path, func(c backup.Change) error {
			if len(body.Changes) == maxChanges {
				return errEnough
			}
			if c.Kind == "metadata" && c.New != nil && c.New.Dir() {
				return nil // that something in it changed is said by what changed
			}
			counts[c.Kind]++
			body.Changes = append(body.Changes, p.change(from, c))
			return nil
		})
		if body.Enough = errors.Is(err, errEnough); err != nil && !body.Enough {
			w.failRepo(rw, r, err)
			return
		}
		for _, kind := range []string{"added", "removed", "content", "type", "metadata"} {
			if n := counts[kind]; n > 0 {
				body.Counts = append(body.Counts, countText(n)+" "+changeNames[kind].count)
			}
		}
	}
	w.render(rw, r, http.StatusOK, "diff", page{Title: "Changes in " + short(p.snapshot.ID), View: "/snapshots", Body: body})
}

// earlier finds the snapshot to compare with, and lists those that one may choose,
// the newest first.
func earlier(all []*backup.Snapshot, s *backup.Snapshot, id string, others *[]otherView) (from *backup.Snapshot) {
	for _, o := range slices.Backward(all) {
		if o.ID == s.ID || o.Source != s.Source || o.Host != s.Host || id == "" && !o.Time.Before(s.Time) {
			continue
		}
		chosen := from == nil && (id == "" || o.ID == id)
		if chosen {
			from = o
		}
		if len(*others) < maxOthers || chosen {
			*others = append(*others, otherView{o.ID, dateText(o.Time), chosen})
		}
	}
	return from
}

// change is a line. What was removed is shown where it was.
func (p place) change(from *backup.Snapshot, c backup.Change) changeView {
	e, at := c.New, p
	if e == nil {
		e, at.snapshot = c.Old, from
	}
	kind := changeNames[c.Kind]
	v := changeView{entryView: at.view(c.Path, *e, time.Now()), Tone: kind.tone, What: kind.what}
	v.Name = printable(c.Path)
	if v.What == "" {
		v.What, v.Tone = c.Kind, toneIdle
	}
	v.Size = v.entryView.Size
	if c.Old != nil && c.New != nil && c.Old.Type == "file" && c.New.Type == "file" && c.Old.Size != c.New.Size {
		v.Size = human.Size(c.Old.Size) + " → " + human.Size(c.New.Size)
	}
	return v
}
