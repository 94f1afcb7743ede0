package web

import (
	"context"
	"sync"
	"time"
)

const (
	healthAge     = time.Minute // a target is asked again when the answer is older and somebody looks
	healthTimeout = 10 * time.Second
)

// health knows how the targets answered lately. It asks while somebody looks at
// the page, and not otherwise: at most storage services a request costs money.
type health struct {
	targets []Target

	mu     sync.Mutex
	states []targetState
}

type targetState struct {
	asking bool
	at     time.Time // of the answer; zero: none yet
	took   time.Duration
	err    error
}

// targetView is a target as the page shows it.
type targetView struct {
	Name    string `json:"name"`
	Kind    string `json:"-"`
	Address string `json:"-"`
	State   string `json:"state"`
	Tone    string `json:"tone"`
}

func newHealth(targets []Target) *health {
	return &health{targets: targets, states: make([]targetState, len(targets))}
}

// look returns what is known, and has what is old asked anew behind the caller's back.
func (h *health) look(now time.Time) []targetView {
	h.mu.Lock()
	defer h.mu.Unlock()
	views := make([]targetView, len(h.targets))
	for i, t := range h.targets {
		s := &h.states[i]
		if t.Check != nil && !s.asking && now.Sub(s.at) >= healthAge {
			s.asking = true
			go h.ask(i)
		}
		v := targetView{Name: t.Name, Kind: t.Kind, Address: t.Address}
		switch {
		case t.Check == nil:
			v.State, v.Tone = "not checked", "idle"
		case s.at.IsZero():
			v.State, v.Tone = "asking …", "idle"
		case s.err != nil:
			v.State, v.Tone = "does not answer: "+printable(s.err.Error()), "bad"
		default:
			v.State, v.Tone = "answers in "+tookText(s.took), "ok"
		}
		views[i] = v
	}
	return views
}

func (h *health) ask(i int) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	begin := time.Now()
	err := h.targets[i].Check(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[i] = targetState{at: time.Now(), took: time.Since(begin), err: err}
}
