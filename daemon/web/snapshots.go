package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/internal/human"
)

const (
	repoTimeout  = 30 * time.Second // to make one view
	snapshotPage = 50               // snapshots on a view
)

// snapshotView is a line of the list.
type snapshotView struct {
	ID, Short, Source, Host string
	Time                    stamp
	Clock                   string
	Files                   int64
	Size, Added             string
	Took                    string
	Partial                 bool
	Tags                    []string
}

func viewSnapshot(s *backup.Snapshot, now time.Time) snapshotView {
	return snapshotView{
		ID: s.ID, Short: short(s.ID), Source: printable(s.Source), Host: printable(s.Host), Time: moment(s.Time, now, ""),
		Clock: s.Time.Local().Format("15:04"), Files: s.Stats.Files, Size: human.Size(s.Stats.Bytes), Added: human.Size(s.Stats.Added),
		Took: tookText(s.End.Sub(s.Time)), Partial: s.Partial, Tags: s.Tags,
	}
}

func short(id string) string { return id[:min(len(id), 8)] }

// dayView is the snapshots of a day.
type dayView struct {
	Name      string
	Snapshots []snapshotView
}

// snapshots lists them by day, the newest first.
func (w *Web) snapshots(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	_, all, err := w.list(ctx)
	if err != nil && len(all) == 0 {
		w.failRepo(rw, r, err)
		return
	}
	problem := ""
	if err != nil {
		w.log.Warn("web: snapshots", zap.Error(err))
		problem = "Not every snapshot can be read; those that can are here."
	}
	source := r.FormValue("source")
	names := sourceNames(all)
	var some []*backup.Snapshot
	for _, s := range slices.Backward(all) {
		if source == "" || s.Source == source {
			some = append(some, s)
		}
	}
	at, older, newer := paged(r.FormValue("page"), len(some), snapshotPage)
	now := time.Now()
	w.render(rw, r, http.StatusOK, "snapshots", page{Title: "Snapshots", View: "/snapshots", Problem: problem, Body: struct {
		Days         []dayView
		Sources      []string
		Source       string
		Total        int
		Older, Newer string
		Restore      *restoringView // the last one
	}{
		days(some[at:min(at+snapshotPage, len(some))], now), names, source, len(some),
		pageURL("/snapshots", url.Values{"source": {source}}, older), pageURL("/snapshots", url.Values{"source": {source}}, newer), w.lastRestore(now),
	}})
}

// paged finds the page asked for among n things: where it begins, and the
// numbers of the next one and the one before, 0 when there is none.
func paged(text string, n, size int) (at, next, before int) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 || number > (n+size-1)/size {
		number = 1
	}
	at = (number - 1) * size
	if at+size < n {
		next = number + 1
	}
	return at, next, number - 1
}

// pageURL is a page of a list; "" for number 0.
func pageURL(path string, q url.Values, number int) string {
	if number == 0 {
		return ""
	}
	q.Set("page", strconv.Itoa(number))
	return path + "?" + q.Encode()
}

func sourceNames(all []*backup.Snapshot) (names []string) {
	for _, s := range all {
		if !slices.Contains(names, s.Source) {
			names = append(names, s.Source)
		}
	}
	slices.Sort(names)
	return names
}

func days(all []*backup.Snapshot, now time.Time) (list []dayView) {
	today, yesterday := dayText(now), dayText(now.AddDate(0, 0, -1))
	for _, s := range all {
		name := dayText(s.Time)
		switch name {
		case today:
			name = "Today"
		case yesterday:
			name = "Yesterday"
		}
		if len(list) == 0 || list[len(list)-1].Name != name {
			list = append(list, dayView{Name: name})
		}
		d := &list[len(list)-1]
		d.Snapshots = append(d.Snapshots, viewSnapshot(s, now))
	}
	return list
}

func dayText(t time.Time) string { return t.Local().Format("Monday, 2 January 2006") }
