package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/keyring"
	"coffer/upstream"
)

// journalName is the file in the state folder that says what mirrors have missed;
// the daemon has the same one.
const journalName = "mirrors"

// misses counts what mirrors have missed in this run.
type misses struct {
	mu    sync.Mutex
	count map[string]int
	first map[string]error
}

func (m *misses) add(mirror string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count == nil {
		m.count, m.first = make(map[string]int), make(map[string]error)
	}
	if m.count[mirror]++; m.first[mirror] == nil {
		m.first[mirror] = err
	}
}

// openStore connects to the upstreams of the machine; several are one Mirror.
func (a *app) openStore(ctx context.Context, u *config.User) (upstream.Bucket, error) {
	if len(u.Upstreams) > 1 {
		return a.openMirror(u)
	}
	c, err := shared(u, u.Upstreams[0], limitsOf(u))
	if err != nil {
		return nil, err
	}
	return openConfig(ctx, u.Upstreams[0], c)
}

func (a *app) openMirror(u *config.User) (*upstream.Mirror, error) {
	if err := durable.MkdirAll(u.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	c := upstream.MembersConfig{
		Marker: keyring.ProfileName, Journal: filepath.Join(u.StateDir, journalName),
		Missed: func(i int, _ string, err error) { a.missed.add(u.Upstreams[i].Name, err) },
	}
	limits := limitsOf(u)
	for _, up := range u.Upstreams {
		member, err := shared(u, up, limits)
		if err != nil {
			return nil, err
		}
		c.Names, c.Members = append(c.Names, up.Name), append(c.Members, member)
	}
	return upstream.OpenMembers(c)
}

// tellMissed says which mirrors lag behind because of this run.
func (a *app) tellMissed() {
	a.missed.mu.Lock()
	defer a.missed.mu.Unlock()
	for name, n := range a.missed.count {
		a.say("coffer: note: upstream %s missed %d changes: %s", name, n, printable(a.missed.first[name].Error()))
		a.say(`coffer: note: the daemon brings them there, or "coffer check --mirrors"`)
	}
}

// mirrorLag is one mirror in the status.
type mirrorLag struct {
	Upstream string `json:"upstream"`
	Missed   int    `json:"missed"` // changes that it does not have yet; -1: it is new, or nobody knows
}

// mirrorLags reads what the mirrors of the machine have missed: the daemon and the
// command note it in one place.
func mirrorLags(u *config.User) ([]mirrorLag, error) {
	if len(u.Upstreams) < 2 {
		return nil, nil
	}
	var names []string
	for _, up := range u.Upstreams {
		names = append(names, up.Name)
	}
	j, err := upstream.OpenJournal(filepath.Join(u.StateDir, journalName), names)
	if err != nil {
		return nil, err
	}
	behind, err := j.Behind()
	if err != nil {
		return nil, err
	}
	lags := make([]mirrorLag, len(names))
	for i := range lags {
		lags[i] = mirrorLag{names[i], behind[i]}
	}
	return lags, nil
}

func (l mirrorLag) String() string {
	switch {
	case l.Missed < 0:
		return l.Upstream + " is still to be compared with the others"
	case l.Missed > 0:
		return l.Upstream + " has yet to get " + count(l.Missed, "change")
	}
	return l.Upstream + " is up to date"
}

// mirrorState is what "check --mirrors" found of the mirrors.
type mirrorState struct {
	Upstreams []string `json:"upstreams"`
	Objects   int      `json:"objects"`
	Repaired  int      `json:"repaired"`  // changes and objects that were copied
	Missing   int      `json:"missing"`   // changes and objects that could not be
	Different []string `json:"different"` // objects of which mirrors have different sizes
	Error     string   `json:"error,omitempty"`
}

// checkMirrors brings what mirrors missed there, and copies what only some have.
// Objects that differ are told: which one is right only a check of the content
// knows.
func (a *app) checkMirrors(ctx context.Context, u *config.User) (*mirrorState, error) {
	s := &mirrorState{Different: []string{}}
	for _, up := range u.Upstreams {
		s.Upstreams = append(s.Upstreams, up.Name)
	}
	if len(u.Upstreams) < 2 {
		return nil, hint(usagef("--mirrors: there is one upstream"), `"coffer target add" adds another`)
	}
	m, err := a.openMirror(u)
	if err != nil {
		return nil, err
	}
	r, err := m.CatchUp(ctx)
	s.Repaired, s.Missing = r.Done, r.Left
	if err != nil {
		return s, fmt.Errorf("bringing mirrors up to date: %w", err)
	}
	type lack struct {
		mirror int
		name   string
	}
	var lacks []lack
	err = m.Compare(ctx, "", func(d upstream.Difference) error {
		s.Objects++
		absent := false
		for i, info := range d.Infos {
			if info == nil {
				lacks, absent = append(lacks, lack{i, d.Name}), true
			}
		}
		if !absent && !d.Same() {
			s.Different = append(s.Different, d.Name)
		}
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("comparing mirrors: %w", err)
	}
	var errs []error
	for _, l := range lacks {
		if err := m.Repair(ctx, l.mirror, l.name); err != nil {
			s.Missing++
			if errs = append(errs, err); ctx.Err() != nil || errors.Is(err, upstream.ErrUnavailable) {
				break
			}
			continue
		}
		s.Repaired++
	}
	return s, errors.Join(errs...)
}
