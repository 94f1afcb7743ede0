package daemon

import (
	"path"
	"slices"
	"strings"
)

// ignore says what of a source is not backed up, and so not watched: patterns
// as in .gitignore(5), and paths that nothing brings back. Its answer for a path
// supposes that the folders above it are not ignored.
type ignore struct {
	paths []string // relative to the source
	rules []rule
}

type rule struct {
	segments []string // "**" stands for any number
	dirOnly  bool
	negated  bool
}

// add appends patterns; of those that match, the last one decides.
func (g *ignore) add(patterns []string) {
	for _, p := range patterns {
		if p = trimPattern(p); p == "" || p[0] == '#' {
			continue
		}
		var r rule
		p, r.negated = strings.CutPrefix(p, "!")
		p, r.dirOnly = strings.CutSuffix(p, "/")
		p, anchored := strings.CutPrefix(p, "/")
		if p == "" {
			continue
		}
		r.segments = strings.Split(strings.ReplaceAll(p, "[!", "[^"), "/")
		if !anchored && len(r.segments) == 1 {
			r.segments = append([]string{"**"}, r.segments...)
		}
		g.rules = append(g.rules, r)
	}
}

// match says whether rel, a path relative to the source, is left out.
func (g *ignore) match(rel string, dir bool) bool {
	if slices.Contains(g.paths, rel) {
		return true
	}
	ignored := false
	segments := strings.Split(rel, "/")
	for _, r := range g.rules {
		if (dir || !r.dirOnly) && ignored == r.negated && matchSegments(r.segments, segments) {
			ignored = !r.negated
		}
	}
	return ignored
}

func matchSegments(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			if len(pattern) == 1 {
				return len(name) > 0 // "a/**" is what is in a, not a
			}
			for i := range name {
				if matchSegments(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok { // a bad pattern matches nothing
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}

// trimPattern takes trailing spaces away, unless a backslash keeps them.
func trimPattern(p string) string {
	for strings.HasSuffix(p, " ") && !strings.HasSuffix(p, `\ `) {
		p = p[:len(p)-1]
	}
	return p
}

// escape makes a pattern that matches rel and nothing else.
func escape(rel string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, ` `, `\ `).Replace(rel)
}
