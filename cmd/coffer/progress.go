package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"coffer/backup"
	"coffer/internal/human"
)

// meter shows how far a run is: a bar on a terminal, elsewhere a line a minute,
// with --json nothing.
type meter struct {
	name  string
	out   io.Writer // nil: nothing is shown
	bars  *mpb.Progress
	bar   *mpb.Bar
	mu    sync.Mutex
	last  time.Time // of the line before
	state backup.Progress
}

// lineEvery is how often a run that nobody watches tells how far it is.
const lineEvery = time.Minute

func (a *app) meter(name string) *meter {
	m := &meter{name: printable(name), last: time.Now()}
	if a.json {
		return m
	}
	m.out = a.err
	if !isTerminal(a.err) {
		return m
	}
	m.bars = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	m.bar = m.bars.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(m.name+" ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + m.line() })))
	return m
}

// update takes the newest totals.
func (m *meter) update(p backup.Progress) {
	m.mu.Lock()
	m.state = p
	due := m.out != nil && m.bar == nil && time.Since(m.last) >= lineEvery
	if due {
		m.last = time.Now()
	}
	m.mu.Unlock()
	if m.bar != nil {
		m.bar.SetTotal(p.AllBytes+1, false) // one more: it ends with stop
		m.bar.SetCurrent(min(p.Bytes, p.AllBytes))
	}
	if due {
		fmt.Fprintf(m.out, "coffer: %s: %s\n", m.name, m.line())
	}
}

func (m *meter) line() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.state
	s := p.Phase + ", " + count(p.Files, "file")
	if p.Counted {
		s = fmt.Sprintf("%s, %d of %s", p.Phase, p.Files, count(p.AllFiles, "file"))
	}
	s += ", " + human.Size(p.Bytes)
	if p.Counted {
		s += " of " + human.Size(p.AllBytes)
	}
	if took := time.Since(p.Started); p.Counted && p.Bytes > 0 && p.Bytes < p.AllBytes && !p.Started.IsZero() && took > 5*time.Second {
		left := time.Duration(float64(took) * float64(p.AllBytes-p.Bytes) / float64(p.Bytes))
		s += fmt.Sprintf(", about %v left", left.Round(time.Second))
	}
	return s
}

// stop takes the bar away.
func (m *meter) stop() {
	if m.bar == nil {
		return
	}
	m.bar.Abort(true)
	m.bars.Wait()
}
