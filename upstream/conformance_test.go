package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"coffer/upstream"
)

// store is an implementation under test.
type store struct {
	open  func(t *testing.T) upstream.Bucket // an empty one
	names []string                           // odd names that it takes
	flat  bool                               // does not list "a/b" beside an object "a"
}

// The same storage code must behave the same on every storage: whatever passes
// here may be put beneath backups and the gateway.
func testBucket(t *testing.T, s store) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, upstream.Bucket)
	}{
		{"PutGet", testPutGet},
		{"Ranges", testRanges},
		{"Absent", testAbsent},
		{"UnknownSize", testUnknownSize},
		{"WrongSize", testWrongSize},
		{"Rewind", testRewind},
		{"Conditions", testConditions},
		{"Race", testRace},
		{"Replace", testReplace},
		{"Meta", testMeta},
		{"ListMany", testListMany},
		{"Copy", testCopy},
		{"Multipart", testMultipart},
		{"MultipartConditions", testMultipartConditions},
		{"BadCalls", testBadCalls},
		{"Cancelled", testCancelled},
		{"Big", testBig},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, s.open(t)) })
	}
	t.Run("List", func(t *testing.T) { testList(t, s.open(t), s.flat) })
	t.Run("Names", func(t *testing.T) { testNames(t, s.open(t), s.names) })
}

func testPutGet(t *testing.T, b upstream.Bucket) {
	for _, size := range []int{0, 1, 4095, 1 << 20} {
		want := randomBytes(size)
		info := put(t, b, "dir/object", want, upstream.PutOptions{})
		if info.Name != "dir/object" || info.Size != int64(size) || info.ETag == "" || info.ModTime.IsZero() {
			t.Errorf("Put: %+v", info)
		}
		got, read := get(t, b, "dir/object", 0, -1)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes come back as %d others", size, len(got))
		}
		head, err := b.Head(t.Context(), "dir/object")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []upstream.Info{read, head} {
			if i.Name != info.Name || i.Size != info.Size || i.ETag != info.ETag || i.ModTime.IsZero() {
				t.Errorf("got %+v, Put said %+v", i, info)
			}
		}
	}
	if err := b.Delete(t.Context(), "dir/object"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Head(t.Context(), "dir/object"); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("after Delete: %v", err)
	}
}

func testRanges(t *testing.T, b upstream.Bucket) {
	data := randomBytes(1000)
	put(t, b, "object", data, upstream.PutOptions{})
	put(t, b, "empty", nil, upstream.PutOptions{})
	for _, tt := range []struct {
		off, n   int64
		from, to int
	}{
		{0, -1, 0, 1000}, {0, 1000, 0, 1000}, {0, 5000, 0, 1000}, {0, 1, 0, 1}, {0, 0, 0, 0},
		{10, 20, 10, 30}, {10, -1, 10, 1000}, {999, 1, 999, 1000}, {999, 10, 999, 1000},
		{1000, 1, 0, 0}, {1000, -1, 0, 0}, {5000, 10, 0, 0}, {500, 0, 0, 0},
		{-1, -1, 999, 1000}, {-100, -1, 900, 1000}, {-100, 10, 900, 910}, {-1000, -1, 0, 1000}, {-5000, -1, 0, 1000},
	} {
		got, info := get(t, b, "object", tt.off, tt.n)
		if !bytes.Equal(got, data[tt.from:tt.to]) || info.Size != 1000 || info.Name != "object" {
			t.Errorf("off %d, n %d: %d bytes, want [%d:%d]; %+v", tt.off, tt.n, len(got), tt.from, tt.to, info)
		}
		if got, info := get(t, b, "empty", tt.off, tt.n); len(got) != 0 || info.Size != 0 || info.Name != "empty" {
			t.Errorf("empty object, off %d, n %d: %d bytes, %+v", tt.off, tt.n, len(got), info)
		}
	}
}

func testAbsent(t *testing.T, b upstream.Bucket) {
	for _, name := range []string{"absent", "no/such/dir"} {
		_, _, err := b.Get(t.Context(), name, 0, -1)
		_, errRange := getError(t, b, name, -10, -1)
		_, _, errNone := b.Get(t.Context(), name, 5, 0)
		_, errHead := b.Head(t.Context(), name)
		_, errCopy := b.Copy(t.Context(), "copy", name, upstream.PutOptions{})
		for _, err := range []error{err, errRange, errNone, errHead, errCopy} {
			if !errors.Is(err, upstream.ErrNotExist) || !strings.Contains(fmt.Sprint(err), name) {
				t.Errorf("got %v, want ErrNotExist with the name", err)
			}
		}
		if err := b.Delete(t.Context(), name); err != nil {
			t.Errorf("Delete of nothing: %v", err)
		}
	}
	if names := list(t, b, "", ""); len(names) != 0 {
		t.Errorf("an empty bucket lists %q", names)
	}
}

func testUnknownSize(t *testing.T, b upstream.Bucket) {
	for _, size := range []int{0, 100, 16 << 20, 16<<20 + 1, 37 << 20} {
		want := randomBytes(size)
		info, err := b.Put(t.Context(), "stream", onlyReader{bytes.NewReader(want)}, -1, upstream.PutOptions{Meta: map[string]string{"k": "v"}})
		if err != nil || info.Size != int64(size) {
			t.Fatalf("%d bytes: %+v, %v", size, info, err)
		}
		got, info := get(t, b, "stream", 0, -1)
		if !bytes.Equal(got, want) || info.Meta["k"] != "v" {
			t.Errorf("%d bytes come back as %d others, %v", size, len(got), info.Meta)
		}
	}
}

// A body that is cut on its way to us must not become an object. HTTP servers
// give io.ErrUnexpectedEOF for a client that went away.
func testWrongSize(t *testing.T, b upstream.Bucket) {
	data := randomBytes(300_000)
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		body io.Reader
		size int64
		want error
	}{
		{"short", bytes.NewReader(data), 300_001, io.ErrUnexpectedEOF},
		{"short stream", onlyReader{bytes.NewReader(data)}, 300_001, io.ErrUnexpectedEOF},
		{"long", bytes.NewReader(data), 299_999, nil},
		{"long stream", onlyReader{bytes.NewReader(data)}, 299_999, nil},
		{"not empty", onlyReader{bytes.NewReader(data)}, 0, nil},
		{"fails", failing(data, broken), 300_001, broken},
		{"fails at the end", failing(data, broken), 300_000, broken},
		{"fails, unknown size", failing(data, broken), -1, broken},
		{"cut, unknown size", failing(data, io.ErrUnexpectedEOF), -1, io.ErrUnexpectedEOF},
		{"cut late, unknown size", failing(randomBytes(20<<20), io.ErrUnexpectedEOF), -1, io.ErrUnexpectedEOF},
	} {
		_, err := b.Put(t.Context(), "wrong", tt.body, tt.size, upstream.PutOptions{})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if _, err := b.Head(t.Context(), "wrong"); !errors.Is(err, upstream.ErrNotExist) {
			t.Errorf("%s: something is visible: %v", tt.name, err)
		}
	}
}

// A seekable body counts from where it stands.
func testRewind(t *testing.T, b upstream.Bucket) {
	r := bytes.NewReader([]byte("headbody"))
	if _, err := r.Seek(4, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "object", r, 4, upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := get(t, b, "object", 0, -1); string(got) != "body" {
		t.Errorf("got %q", got)
	}
}

func testConditions(t *testing.T, b upstream.Bucket) {
	first := put(t, b, "object", []byte("first"), upstream.PutOptions{IfAbsent: true})
	for _, o := range []upstream.PutOptions{{IfAbsent: true}, {IfMatch: "0123456789abcdef0123456789abcdef"}} {
		for _, size := range []int64{6, -1} {
			if _, err := b.Put(t.Context(), "object", strings.NewReader("second"), size, o); !errors.Is(err, upstream.ErrExists) {
				t.Errorf("Put %+v: %v, want ErrExists", o, err)
			}
		}
		if _, err := b.Copy(t.Context(), "object", "object", o); !errors.Is(err, upstream.ErrExists) {
			t.Errorf("Copy %+v: %v, want ErrExists", o, err)
		}
	}
	_, err := b.Put(t.Context(), "absent", strings.NewReader("x"), 1, upstream.PutOptions{IfMatch: first.ETag})
	if !errors.Is(err, upstream.ErrExists) {
		t.Errorf("IfMatch of nothing: %v, want ErrExists", err)
	}
	second := put(t, b, "object", []byte("second"), upstream.PutOptions{IfMatch: first.ETag})
	if second.ETag == first.ETag {
		t.Error("the ETag stays the same")
	}
	if _, err := b.Put(t.Context(), "object", strings.NewReader("third"), 5, upstream.PutOptions{IfMatch: first.ETag}); !errors.Is(err, upstream.ErrExists) {
		t.Errorf("IfMatch of an old ETag: %v, want ErrExists", err)
	}
	if got, _ := get(t, b, "object", 0, -1); string(got) != "second" {
		t.Errorf("got %q", got)
	}
	// Once it is gone the name is free again.
	if err := b.Delete(t.Context(), "object"); err != nil {
		t.Fatal(err)
	}
	put(t, b, "object", []byte("fourth"), upstream.PutOptions{IfAbsent: true})
}

// Two writers that both believe to have made a name first would each lose the
// other's data.
func testRace(t *testing.T, b upstream.Bucket) {
	for round := range 5 {
		name := fmt.Sprintf("race/%d", round)
		base := put(t, b, name+"/base", []byte("base"), upstream.PutOptions{})
		var created, replaced atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			body := fmt.Sprintf("writer %d", i)
			wg.Go(func() {
				_, err := b.Put(t.Context(), name, strings.NewReader(body), int64(len(body)), upstream.PutOptions{IfAbsent: true})
				countWinner(t, &created, err)
			})
			wg.Go(func() {
				_, err := b.Put(t.Context(), name+"/base", strings.NewReader(body), int64(len(body)), upstream.PutOptions{IfMatch: base.ETag})
				countWinner(t, &replaced, err)
			})
		}
		wg.Wait()
		if created.Load() != 1 || replaced.Load() != 1 {
			t.Errorf("%d made it and %d replaced it, want 1 and 1", created.Load(), replaced.Load())
		}
	}
}

func countWinner(t *testing.T, n *atomic.Int32, err error) {
	if err == nil {
		n.Add(1)
	} else if !errors.Is(err, upstream.ErrExists) {
		t.Errorf("the loser gets %v", err)
	}
}

// A reader sees one version from begin to end, whatever writers do.
func testReplace(t *testing.T, b upstream.Bucket) {
	old := bytes.Repeat([]byte("o"), 256<<10)
	put(t, b, "object", old, upstream.PutOptions{})
	r, info, err := b.Get(t.Context(), "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	put(t, b, "object", bytes.Repeat([]byte("n"), 1000), upstream.PutOptions{})
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(head, rest...), old) || info.Size != 256<<10 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func testMeta(t *testing.T, b upstream.Bucket) {
	want := map[string]string{"a": "1", "expires": "never = soon; \"x\"", "content-type": "none", "coffer-envelope": strings.Repeat("A+/=", 300)}
	put(t, b, "object", []byte("x"), upstream.PutOptions{Meta: want})
	_, info := get(t, b, "object", 0, 1)
	head, err := b.Head(t.Context(), "object")
	if err != nil || !maps.Equal(head.Meta, want) || !maps.Equal(info.Meta, want) {
		t.Errorf("got %v and %v, %v", head.Meta, info.Meta, err)
	}
	if info := put(t, b, "object", []byte("x"), upstream.PutOptions{}); len(info.Meta) != 0 {
		t.Errorf("after a write without: %v", info.Meta)
	}
	if head, err := b.Head(t.Context(), "object"); err != nil || len(head.Meta) != 0 {
		t.Errorf("metadata survives a write without: %v, %v", head.Meta, err)
	}
	for _, bad := range []map[string]string{
		{"": "x"}, {"Upper": "x"}, {"a b": "x"}, {"k": "line\nbreak"}, {"k": "é"}, {"k": " x"}, {"k": "x "}, {"k": strings.Repeat("x", 2000)},
	} {
		if _, err := b.Put(t.Context(), "bad", strings.NewReader(""), 0, upstream.PutOptions{Meta: bad}); err == nil {
			t.Errorf("metadata %.40v is taken", bad)
		}
	}
}

func testList(t *testing.T, b upstream.Bucket, flat bool) {
	names := []string{"a-b", "a.b", "a/b-c", "a/b/c", "a/b/d", "a0", "ab", "b/x", "b/y", "b/z", "c d", "c+d", "d~/e", "é/ü", "z"}
	if !flat {
		names = append(names, "a", "a/b", "d~", "é")
	}
	for _, n := range names {
		put(t, b, n, []byte(n), upstream.PutOptions{Meta: map[string]string{"m": "x"}})
	}
	prefixes := []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "b/", "b/y", "c", "d~", "é", "zz", "no/such/"}
	afters := []string{"", "a", "a/", "a/b", "a/b/c", "a/c", "b", "b/x", "b/zz", "d~", "é", "zzz"}
	for _, prefix := range prefixes {
		for _, after := range afters {
			var want []string
			for _, n := range names {
				if strings.HasPrefix(n, prefix) && n > after {
					want = append(want, n)
				}
			}
			slices.Sort(want)
			if got := list(t, b, prefix, after); !slices.Equal(got, want) {
				t.Errorf("prefix %q after %q: got %q, want %q", prefix, after, got, want)
			}
		}
	}
	stop := errors.New("stop")
	count := 0
	err := b.List(t.Context(), "", "", func(i upstream.Info) error {
		head, err := b.Head(t.Context(), i.Name)
		if err != nil || head.Size != i.Size || head.ETag != i.ETag || i.ModTime.IsZero() || i.Meta != nil {
			t.Errorf("listed as %+v, is %+v, %v", i, head, err)
		}
		if count++; count == 3 {
			return stop
		}
		return nil
	})
	if err != stop || count != 3 {
		t.Errorf("got %v after %d, want the callback's error as it is", err, count)
	}
}

// Stores list a thousand at a time; the seams must not show.
func testListMany(t *testing.T, b upstream.Bucket) {
	var want []string
	for i := range 1250 {
		want = append(want, fmt.Sprintf("many/%02d/%04d", i%7, i))
	}
	parallel(t, 8, want, func(name string) error {
		_, err := b.Put(t.Context(), name, strings.NewReader("x"), 1, upstream.PutOptions{})
		return err
	})
	slices.Sort(want)
	if got := list(t, b, "many/", ""); !slices.Equal(got, want) {
		t.Errorf("%d names, want %d in order", len(got), len(want))
	}
	if got := list(t, b, "many/", want[1100]); !slices.Equal(got, want[1101:]) {
		t.Errorf("after name 1100: %d names, want %d", len(got), len(want)-1101)
	}
	parallel(t, 8, want, func(name string) error { return b.Delete(t.Context(), name) })
	if got := list(t, b, "", ""); len(got) != 0 {
		t.Errorf("%d names are left", len(got))
	}
}

func testCopy(t *testing.T, b upstream.Bucket) {
	data := randomBytes(100_000)
	first := put(t, b, "src", data, upstream.PutOptions{Meta: map[string]string{"old": "1", "both": "1"}})
	meta := map[string]string{"new": "2", "both": "2"}
	for _, dst := range []string{"dir/dst", "src"} {
		info, err := b.Copy(t.Context(), dst, "src", upstream.PutOptions{Meta: meta})
		if err != nil || info.Name != dst || info.Size != 100_000 || info.ETag == "" {
			t.Fatalf("%+v, %v", info, err)
		}
		got, read := get(t, b, dst, 0, -1)
		if !bytes.Equal(got, data) || !maps.Equal(read.Meta, meta) || read.ETag != info.ETag {
			t.Errorf("%s: %d bytes, %+v", dst, len(got), read)
		}
	}
	if _, err := b.Copy(t.Context(), "new", "src", upstream.PutOptions{IfAbsent: true}); err != nil {
		t.Error(err)
	}
	head, err := b.Head(t.Context(), "src")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Copy(t.Context(), "src", "src", upstream.PutOptions{IfMatch: head.ETag}); err != nil {
		t.Errorf("%v (first ETag %s)", err, first.ETag)
	}
}

func testMultipart(t *testing.T, b upstream.Bucket) {
	id, err := b.StartMultipart(t.Context(), "dir/big", upstream.PutOptions{Meta: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[int][]byte{2: randomBytes(5 << 20), 5: randomBytes(5<<20 + 1), 9: randomBytes(17)}
	part(t, b, "dir/big", id, 5, randomBytes(100)) // replaced below
	parts := []upstream.Part{{}, part(t, b, "dir/big", id, 5, bodies[5]), part(t, b, "dir/big", id, 9, bodies[9])}
	parts[0] = part(t, b, "dir/big", id, 2, bodies[2])
	part(t, b, "dir/big", id, 7, randomBytes(5<<20)) // not named below
	if _, err := b.Head(t.Context(), "dir/big"); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("visible before it is complete: %v", err)
	}
	var uploads []upstream.Upload
	err = b.ListMultipart(t.Context(), "dir/big", func(u upstream.Upload) error { uploads = append(uploads, u); return nil })
	if err != nil || len(uploads) == 0 || uploads[0].Name != "dir/big" || uploads[0].Started.IsZero() {
		t.Errorf("ListMultipart: %+v, %v", uploads, err)
	}
	for _, bad := range [][]upstream.Part{
		nil, {parts[1], parts[0]}, {parts[0], parts[0]}, {parts[0], {Number: 6, ETag: parts[1].ETag}}, {{Number: 2, ETag: parts[1].ETag}},
	} {
		if _, err := b.CompleteMultipart(t.Context(), "dir/big", id, bad, upstream.PutOptions{}); err == nil {
			t.Errorf("completed from %+v", bad)
		}
	}
	info, err := b.CompleteMultipart(t.Context(), "dir/big", id, parts, upstream.PutOptions{})
	want := slices.Concat(bodies[2], bodies[5], bodies[9])
	if err != nil || info.Size != int64(len(want)) || info.Name != "dir/big" {
		t.Fatalf("%+v, %v", info, err)
	}
	got, read := get(t, b, "dir/big", 0, -1)
	if !bytes.Equal(got, want) || read.Meta["k"] != "v" || read.ETag != info.ETag {
		t.Errorf("%d bytes, want %d; %+v", len(got), len(want), read)
	}
	if got, _ := get(t, b, "dir/big", 5<<20-3, 6); !bytes.Equal(got, want[5<<20-3:5<<20+3]) {
		t.Error("a range over the seam is wrong")
	}
	if names := list(t, b, "", ""); !slices.Equal(names, []string{"dir/big"}) {
		t.Errorf("listed: %q", names)
	}
	testAbort(t, b, id)
}

// An upload that is over takes nothing more.
func testAbort(t *testing.T, b upstream.Bucket, over string) {
	id, err := b.StartMultipart(t.Context(), "other", upstream.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := part(t, b, "other", id, 1, []byte("part"))
	for range 2 {
		if err := b.AbortMultipart(t.Context(), "other", id); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{id, over, "../../etc", ""} {
		if _, err := b.PutPart(t.Context(), "other", id, 1, strings.NewReader("x"), 1); err == nil {
			t.Errorf("a part for upload %q is taken", id)
		}
		if _, err := b.CompleteMultipart(t.Context(), "other", id, []upstream.Part{p}, upstream.PutOptions{}); err == nil {
			t.Errorf("upload %q is completed", id)
		}
	}
	_, err = b.PutPart(t.Context(), "other", id, 1, strings.NewReader("x"), 1)
	if !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if id, err = b.StartMultipart(t.Context(), "other", upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	err = b.ListMultipart(t.Context(), "other", func(u upstream.Upload) error { return b.AbortMultipart(t.Context(), u.Name, u.ID) })
	if err != nil {
		t.Error(err)
	}
	if _, err = b.PutPart(t.Context(), "other", id, 1, strings.NewReader("x"), 1); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("aborted as listed: got %v, want ErrNotExist", err)
	}
	if _, err := b.Head(t.Context(), "other"); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("an aborted upload is visible: %v", err)
	}
}

func testMultipartConditions(t *testing.T, b upstream.Bucket) {
	first := put(t, b, "object", []byte("first"), upstream.PutOptions{})
	for _, tt := range []struct {
		name string
		o    upstream.PutOptions
		want error
	}{
		{"object", upstream.PutOptions{IfAbsent: true}, upstream.ErrExists},
		{"object", upstream.PutOptions{IfMatch: "0123456789abcdef0123456789abcdef"}, upstream.ErrExists},
		{"absent", upstream.PutOptions{IfMatch: first.ETag}, upstream.ErrExists},
		{"new", upstream.PutOptions{IfAbsent: true}, nil},
		{"object", upstream.PutOptions{IfMatch: first.ETag}, nil},
	} {
		id, err := b.StartMultipart(t.Context(), tt.name, upstream.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := part(t, b, tt.name, id, 1, []byte("second"))
		if _, err := b.CompleteMultipart(t.Context(), tt.name, id, []upstream.Part{p}, tt.o); !errors.Is(err, tt.want) {
			t.Errorf("%s, %+v: got %v, want %v", tt.name, tt.o, err, tt.want)
		}
	}
	for _, name := range []string{"object", "new"} {
		if got, _ := get(t, b, name, 0, -1); string(got) != "second" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func testBadCalls(t *testing.T, b upstream.Bucket) {
	for _, name := range []string{"", strings.Repeat("x", 1025)} {
		_, errPut := b.Put(t.Context(), name, strings.NewReader(""), 0, upstream.PutOptions{})
		_, _, errGet := b.Get(t.Context(), name, 0, -1)
		_, errHead := b.Head(t.Context(), name)
		_, errStart := b.StartMultipart(t.Context(), name, upstream.PutOptions{})
		for _, err := range []error{errPut, errGet, errHead, errStart, b.Delete(t.Context(), name)} {
			if err == nil || errors.Is(err, upstream.ErrNotExist) {
				t.Errorf("a name of %d bytes: %v", len(name), err)
			}
		}
	}
	id, err := b.StartMultipart(t.Context(), "object", upstream.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{-1, 0, 10001} {
		if _, err := b.PutPart(t.Context(), "object", id, number, strings.NewReader("x"), 1); err == nil {
			t.Errorf("part %d is taken", number)
		}
	}
}

func testCancelled(t *testing.T, b upstream.Bucket) {
	put(t, b, "object", randomBytes(4<<20), upstream.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	r, _, err := b.Get(ctx, "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	_, errPut := b.Put(ctx, "new", strings.NewReader("x"), 1, upstream.PutOptions{})
	_, errHead := b.Head(ctx, "object")
	errList := b.List(ctx, "", "", func(upstream.Info) error { return nil })
	for _, err := range []error{errPut, errHead, errList, b.Delete(ctx, "object")} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

func testBig(t *testing.T, b upstream.Bucket) {
	const size = 200 << 20
	seed := [32]byte{7}
	if _, err := b.Put(t.Context(), "big", io.LimitReader(rand.NewChaCha8(seed), size), size, upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r, info, err := b.Get(t.Context(), "big", 0, -1)
	if err != nil || info.Size != size {
		t.Fatalf("%+v, %v", info, err)
	}
	defer r.Close()
	want, got, expect := rand.NewChaCha8(seed), make([]byte, 1<<20), make([]byte, 1<<20)
	for range size >> 20 {
		_, _ = want.Read(expect) // never fails
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, expect) {
			t.Fatalf("other bytes come back: %v", err)
		}
	}
	if n, err := r.Read(got); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// Names of every kind live beside each other and are listed as they are.
func testNames(t *testing.T, b upstream.Bucket, names []string) {
	for i, name := range names {
		if _, err := b.Put(t.Context(), name, strings.NewReader(name), int64(len(name)), upstream.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("%.60q (%d): %v", name, i, err)
		}
	}
	want := slices.Sorted(slices.Values(names))
	if got := list(t, b, "", ""); !slices.Equal(got, want) {
		t.Errorf("got  %.2000q\nwant %.2000q", got, want)
	}
	for _, name := range names {
		if got, _ := get(t, b, name, 0, -1); string(got) != name {
			t.Errorf("%.60q holds %.60q", name, got)
		}
		if err := b.Delete(t.Context(), name); err != nil {
			t.Errorf("%.60q: %v", name, err)
		}
	}
	if got := list(t, b, "", ""); len(got) != 0 {
		t.Errorf("left: %.2000q", got)
	}
}

// Helpers.

type onlyReader struct{ io.Reader }

// failing gives data and then err.
func failing(data []byte, err error) io.Reader {
	return io.MultiReader(onlyReader{bytes.NewReader(data)}, readerFunc(func([]byte) (int, error) { return 0, err }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b) // never fails
	return b
}

func put(t *testing.T, b upstream.Bucket, name string, data []byte, o upstream.PutOptions) upstream.Info {
	t.Helper()
	info, err := b.Put(t.Context(), name, bytes.NewReader(data), int64(len(data)), o)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func part(t *testing.T, b upstream.Bucket, name, id string, number int, data []byte) upstream.Part {
	t.Helper()
	etag, err := b.PutPart(t.Context(), name, id, number, bytes.NewReader(data), int64(len(data)))
	if err != nil || etag == "" {
		t.Fatalf("part %d: %q, %v", number, etag, err)
	}
	return upstream.Part{Number: number, ETag: etag}
}

func get(t *testing.T, b upstream.Bucket, name string, off, n int64) ([]byte, upstream.Info) {
	t.Helper()
	r, info, err := b.Get(t.Context(), name, off, n)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data, info
}

func getError(t *testing.T, b upstream.Bucket, name string, off, n int64) ([]byte, error) {
	r, _, err := b.Get(t.Context(), name, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func list(t *testing.T, b upstream.Bucket, prefix, after string) []string {
	t.Helper()
	var names []string
	err := b.List(t.Context(), prefix, after, func(i upstream.Info) error {
		names = append(names, i.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func parallel(t *testing.T, n int, names []string, fn func(string) error) {
	t.Helper()
	work := make(chan string)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for name := range work {
				if err := fn(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	wg.Wait()
}
