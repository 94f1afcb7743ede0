package ignore

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		patterns string // separated by "|"
		path     string // "/" at the end: a directory
		want     bool
	}{
		{"*.o", "a.o", true},
		{"*.o", "dir/a.o", true},
		{"*.o", "a.c", false},
		{"*.o", "a.o.c", false},
		{"/a.o", "a.o", true},
		{"/a.o", "dir/a.o", false},
		{"dir/a.o", "dir/a.o", true},
		{"dir/a.o", "x/dir/a.o", false},
		{"**/dir/a.o", "x/y/dir/a.o", true},
		{"**/dir/a.o", "dir/a.o", true},
		{"build/", "build/", true},
		{"build/", "x/build/", true},
		{"build/", "build", false},
		{"a/**", "a/b", true},
		{"a/**", "a/b/c", true},
		{"a/**", "a/", false},
		{"a/**/z", "a/z", true},
		{"a/**/z", "a/b/c/z", true},
		{"a/**/z", "a/b/c/y", false},
		{"*|!keep", "keep", false},
		{"*|!keep", "lose", true},
		{"!keep|*", "keep", true},
		{"# comment", "# comment", false},
		{`\# name`, "# name", true},
		{`\!name`, "!name", true},
		{"name   ", "name", true},
		{`name\ `, "name ", true},
		{"a?c", "abc", true},
		{"a?c", "a/c", false},
		{"a*c", "a/c", false},
		{"*", "x/y", true},
		{"[a-c]x", "bx", true},
		{"[!a-c]x", "bx", false},
		{"[^a-c]x", "dx", true},
		{"[]x]", "]", true},
		{"[abc", "[abc", true},
		{`[\]]`, "]", true},
		{"a**b", "axxb", true},
		{"", "x", false},
		{"/", "x", false},
		{"\r", "x", false},
		{"x\r", "x", true},
		{"\xff*", "\xff\xfe", true},
	} {
		r := New(nil, "", strings.Split(tt.patterns, "|"))
		path, dir := strings.CutSuffix(tt.path, "/")
		if got := r.Match(path, dir); got != tt.want {
			t.Errorf("%q against %q: %v, want %v", tt.patterns, tt.path, got, tt.want)
		}
	}
}

// The rules of a directory decide before those around it, and say nothing about
// what is outside.
func TestNested(t *testing.T) {
	outer := New(nil, "", []string{"*.log", "/sub/x"})
	inner := Parse(outer, "sub", []byte("!keep.log\n/y\n"))
	for path, want := range map[string]bool{
		"a.log": true, "sub/a.log": true, "sub/keep.log": false, "sub/deep/keep.log": false, "keep.log": true,
		"sub/x": true, "sub/y": true, "sub/deep/y": false, "y": false, "subother/y": false,
	} {
		if got := inner.Match(path, false); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if New(outer, "x", nil) != outer || (*Rules)(nil).Match("x", false) {
		t.Error("empty rules")
	}
}

// A hostile pattern must not take exponential time, nor crash.
func FuzzMatch(f *testing.F) {
	f.Add("*a*a*a*a*b", strings.Repeat("a", 100))
	f.Add("**/**/**/x", strings.Repeat("a/", 50))
	f.Add("[a-", "[a-")
	f.Add(`\`, `\`)
	f.Fuzz(func(t *testing.T, pattern, path string) {
		r := New(nil, "", []string{pattern})
		first, again := r.Match(path, true), r.Match(path, true)
		if first != again {
			t.Error("not deterministic")
		}
		if r.Match(path, false) && !strings.HasPrefix(pattern, "!") && New(nil, "", []string{pattern, "!" + pattern}).Match(path, false) {
			t.Error("a negated pattern does not take back what the pattern takes")
		}
	})
}
