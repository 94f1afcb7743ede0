// Package ignore decides which files are left out, by patterns in the syntax of
// gitignore: one a line, "#" begins a comment, "!" takes a file back in, a "/" at
// the end means directories only, one elsewhere ties the pattern to its directory,
// "*" and "?" stop at "/", "**" does not, and the last pattern that fits decides.
package ignore

import (
	"bytes"
	"strings"
)

// Rules are patterns and the directory that they belong to. Rules of a
// directory below come first; what they do not decide, the outer ones do.
type Rules struct {
	outer    *Rules
	base     string // path of the directory, without "/" at either end
	patterns []pattern
}

type pattern struct {
	segments []string // of the path, "**" for any number of them
	negate   bool
	dirOnly  bool
}

// MaxFile bounds a file of patterns, in bytes.
const MaxFile = 1 << 20

// New returns rules for the directory base and below, with outer around them;
// outer may be nil.
func New(outer *Rules, base string, lines []string) *Rules {
	r := &Rules{outer: outer, base: strings.Trim(base, "/")}
	for _, l := range lines {
		if p, ok := parse(l); ok {
			r.patterns = append(r.patterns, p)
		}
	}
	if len(r.patterns) == 0 {
		return outer
	}
	return r
}

// Parse is New for the content of a file.
func Parse(outer *Rules, base string, content []byte) *Rules {
	var lines []string
	for l := range bytes.SplitSeq(content, []byte("\n")) {
		lines = append(lines, string(l))
	}
	return New(outer, base, lines)
}

func parse(line string) (p pattern, ok bool) {
	line = strings.TrimSuffix(line, "\r")
	for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
		line = line[:len(line)-1]
	}
	if line == "" || line[0] == '#' {
		return p, false
	}
	if line[0] == '!' {
		p.negate, line = true, line[1:]
	}
	if strings.HasSuffix(line, "/") {
		p.dirOnly, line = true, strings.TrimRight(line, "/")
	}
	if line == "" {
		return p, false
	}
	tied := strings.Contains(line, "/")
	line = strings.TrimLeft(line, "/")
	p.segments = strings.Split(line, "/")
	if !tied {
		p.segments = append([]string{"**"}, p.segments...)
	}
	return p, line != ""
}

// Match reports whether the file at path, relative to the outermost base, is to
// be left out. A nil Rules leaves out nothing. What lies in a directory that is
// left out is not asked for.
func (r *Rules) Match(path string, dir bool) bool {
	for ; r != nil; r = r.outer {
		rel := path
		if r.base != "" {
			var below bool
			if rel, below = strings.CutPrefix(path, r.base+"/"); !below {
				continue
			}
		}
		names := strings.Split(rel, "/")
		for i := len(r.patterns) - 1; i >= 0; i-- {
			p := &r.patterns[i]
			if (dir || !p.dirOnly) && matchPath(p.segments, names) {
				return !p.negate
			}
		}
	}
	return false
}

// matchPath matches names against segments. It is quadratic at worst: only the
// last "**" is ever tried again.
func matchPath(segments, names []string) bool {
	s, n, star, mark := 0, 0, -1, 0
	for n < len(names) {
		switch {
		case s < len(segments) && segments[s] == "**":
			if s == len(segments)-1 { // a trailing one means what is inside
				return true
			}
			star, mark = s, n
			s++
		case s < len(segments) && matchName(segments[s], names[n]):
			s, n = s+1, n+1
		case star >= 0:
			mark++
			s, n = star+1, mark
		default:
			return false
		}
	}
	return s == len(segments)
}

// matchName matches one name; again only the last "*" is tried again.
func matchName(pat, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		if p < len(pat) && pat[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if p < len(pat) {
			if next, ok := matchByte(pat, p, name[n]); ok {
				p, n = next, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, n = star+1, mark
	}
	for p < len(pat) && pat[p] == '*' {
		p++
	}
	return p == len(pat)
}

// matchByte matches what stands at pat[p] against c and returns where the
// pattern goes on.
func matchByte(pat string, p int, c byte) (next int, ok bool) {
	switch pat[p] {
	case '?':
		return p + 1, true
	case '\\':
		if p+1 < len(pat) {
			return p + 2, pat[p+1] == c
		}
		return p + 1, c == '\\'
	case '[':
		if next, in, ok := matchClass(pat, p, c); ok {
			return next, in
		}
	}
	return p + 1, pat[p] == c
}

// matchClass matches "[a-z]" or "[!a-z]"; ok is false if there is no "]".
func matchClass(pat string, p int, c byte) (next int, in, ok bool) {
	i := p + 1
	negate := i < len(pat) && (pat[i] == '!' || pat[i] == '^')
	if negate {
		i++
	}
	for first := true; i < len(pat); first = false {
		if pat[i] == ']' && !first {
			return i + 1, in != negate, true
		}
		lo := pat[i]
		if lo == '\\' && i+1 < len(pat) {
			i++
			lo = pat[i]
		}
		hi := lo
		if i+2 < len(pat) && pat[i+1] == '-' && pat[i+2] != ']' {
			hi = pat[i+2]
			i += 2
		}
		in = in || lo <= c && c <= hi
		i++
	}
	return 0, false, false
}
