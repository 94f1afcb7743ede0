package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/internal/human"
)

const (
	chartPoints = 60 // the newest snapshots of a source
	chartWidth  = 600.0
	chartHeight = 120.0
)

// chart is a picture of numbers over time, drawn here: the page only shows it.
type chart struct {
	Title string
	About string // what it says, for those who do not see it
	Max   string
	Last  string
	Area  string // path of a filled line; "" for bars
	Line  string
	Bars  []bar
}

type bar struct{ X, Y, W, H, Title string }

// chartRow is what the charts are drawn from, as text.
type chartRow struct{ Time, Size, Added, Took string }

// chartsView is the charts of one source.
type chartsView struct {
	Source      string
	From, To    string
	Charts      []chart
	Rows        []chartRow
	HasSnapshot bool
}

// charts shows size, added bytes and duration over time.
func (w *Web) charts(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	_, all, err := w.list(ctx)
	if err != nil && len(all) == 0 {
		w.failRepo(rw, r, err)
		return
	}
	if err != nil {
		w.log.Warn("web: snapshots", zap.Error(err))
	}
	bySource := make(map[string][]*backup.Snapshot)
	for _, s := range all {
		bySource[s.Source] = append(bySource[s.Source], s)
	}
	var views []chartsView
	names := sourceNames(all)
	only := r.FormValue("source")
	for _, name := range names {
		if only == "" || only == name {
			views = append(views, drawCharts(name, bySource[name]))
		}
	}
	w.render(rw, r, http.StatusOK, "charts", page{Title: "Charts", View: "/charts", Body: struct {
		Views   []chartsView
		Sources []string
		Source  string
	}{views, names, only}})
}

func drawCharts(name string, all []*backup.Snapshot) chartsView {
	all = all[max(0, len(all)-chartPoints):]
	v := chartsView{Source: printable(name)}
	var size, added, took []int64
	var at []time.Time
	for _, s := range all {
		at = append(at, s.Time)
		size = append(size, s.Stats.Bytes)
		added = append(added, s.Stats.Added)
		took = append(took, int64(max(s.End.Sub(s.Time), 0)))
		v.Rows = append(v.Rows, chartRow{dateText(s.Time), human.Size(s.Stats.Bytes), human.Size(s.Stats.Added), tookText(s.End.Sub(s.Time))})
	}
	if len(all) > 0 {
		v.From, v.To = at[0].Local().Format("2 Jan 2006"), at[len(at)-1].Local().Format("2 Jan 2006")
	}
	length := func(n int64) string { return tookText(time.Duration(n)) }
	v.Charts = []chart{
		drawLine("Size", at, size, human.Size),
		drawBars("Added by each backup", at, added, human.Size),
		drawBars("Duration", at, took, length),
	}
	return v
}

// scale is where each number lies: the x of its slot and its height.
func scale(numbers []int64) (slot float64, top int64) {
	for _, n := range numbers {
		top = max(top, n)
	}
	return chartWidth / float64(max(len(numbers), 1)), max(top, 1)
}

func about(title string, numbers []int64, text func(int64) string) (say, highest, last string) {
	if len(numbers) == 0 {
		return title + ": no snapshots yet", "", ""
	}
	low, high := numbers[0], numbers[0]
	for _, n := range numbers {
		low, high = min(low, n), max(high, n)
	}
	last = text(numbers[len(numbers)-1])
	return fmt.Sprintf("%s over %s: between %s and %s, last %s", title, plural(int64(len(numbers)), "snapshot"), text(low), text(high), last), text(high), last
}

func drawLine(title string, at []time.Time, numbers []int64, text func(int64) string) chart {
	c := chart{Title: title}
	c.About, c.Max, c.Last = about(title, numbers, text)
	slot, top := scale(numbers)
	var b strings.Builder
	for i, n := range numbers {
		x, y := (float64(i)+0.5)*slot, chartHeight-float64(n)/float64(top)*(chartHeight-8)
		if i == 0 {
			fmt.Fprintf(&b, "M0 %.1f", y)
		}
		fmt.Fprintf(&b, "L%.1f %.1f", x, y)
		if i == len(numbers)-1 {
			fmt.Fprintf(&b, "L%.0f %.1f", chartWidth, y)
		}
		c.Bars = append(c.Bars, bar{fixed(float64(i) * slot), "0", fixed(slot), fixed(chartHeight), dateText(at[i]) + ": " + text(n)})
	}
	if c.Line = b.String(); c.Line != "" {
		c.Area = c.Line + fmt.Sprintf("V%.0fH0Z", chartHeight)
	}
	return c
}

func drawBars(title string, at []time.Time, numbers []int64, text func(int64) string) chart {
	c := chart{Title: title}
	c.About, c.Max, c.Last = about(title, numbers, text)
	slot, top := scale(numbers)
	for i, n := range numbers {
		h := float64(n) / float64(top) * (chartHeight - 8)
		if n > 0 {
			h = max(h, 1.5) // something is not nothing
		}
		w := min(slot*0.7, 40)
		c.Bars = append(c.Bars, bar{fixed((float64(i)+0.5)*slot - w/2), fixed(chartHeight - h), fixed(w), fixed(h), dateText(at[i]) + ": " + text(n)})
	}
	return c
}

func fixed(f float64) string { return fmt.Sprintf("%.1f", f) }
