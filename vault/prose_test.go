package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tale is a machine with what its clients know, for the files in
// testdata/machine: a line is a command, the indented line below it what came of it.
type tale struct {
	kv  *memKV
	now time.Time
	log [][]byte
}

func (s *tale) hash(what, name string) [32]byte { return sha256.Sum256([]byte(what + " " + name)) }

func (s *tale) uid(name string) UID { return AccountUID(FleetID{}, name) }

func (s *tale) epoch(name string) (e Epoch) { h := s.hash("epoch", name); copy(e[:], h[:]); return e }

func (s *tale) id(name string) (i AttemptID) { h := s.hash("id", name); copy(i[:], h[:]); return i }

func (s *tale) key(epoch string) ed25519.PrivateKey {
	h := s.hash("key", epoch)
	return ed25519.NewKeyFromSeed(h[:])
}

// points are elements that tests name by letter.
var points = func() (p [26][33]byte) {
	for i := range p {
		p[i] = randomPoint()
	}
	return p
}()

func (s *tale) element(name string) [33]byte { return points[int(name[0]-'a')%26] }

func (s *tale) record(account, epoch string, words []string) []byte {
	p := DefaultPolicy()
	if slices.Contains(words, "budget3") {
		p.Budget = 3
	}
	if slices.Contains(words, "nodelay") {
		p.Delays = nil
	}
	h := &Header{Version: 1, UID: s.uid(account), Epoch: s.epoch(epoch), Argon: Argon{1, 64, 1}, Threshold: 1,
		Policy: p, Nodes: []RecordNode{{ID: "n1"}}, Again: slices.Contains(words, "again")}
	env := make([]byte, 93)
	return encode(&Record{Header: encode(h), Masked: make([][32]byte, 1), Envelope: env,
		Public: [32]byte(s.key(epoch).Public().(ed25519.PublicKey))})
}

// run carries out one line.
func (s *tale) run(t *testing.T, line string) string {
	w := strings.Fields(line)
	arg := func(i int, or string) string {
		if i < len(w) {
			return w[i]
		}
		return or
	}
	c := &Command{Time: s.now.UnixMilli(), Token: []byte{}}
	account, epoch := arg(1, ""), arg(2, "")
	switch w[0] {
	case "after":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return s.now.UTC().Format("it is 2 Jan 15:04:05")
	case "start":
		c.Kind, c.Body = KindStart, encode(&StartBody{s.uid(account), s.epoch(epoch), s.element(arg(3, "a"))})
	case "commit":
		rec := s.record(account, epoch, w[3:])
		b := &CommitBody{UID: s.uid(account), Record: rec, Sig: [64]byte(ed25519.Sign(s.key(epoch), commitMessage(rec)))}
		if i := slices.Index(w, "after"); i > 0 {
			b.Old = ed25519.Sign(s.key(w[i+1]), succeedMessage(rec))
		}
		c.Kind, c.Body = KindCommit, encode(b)
	case "guess":
		c.Kind, c.Body = KindAttempt, encode(&AttemptBody{s.uid(account), s.epoch(epoch), s.id(arg(3, "")), s.element(arg(4, arg(3, "a")))})
	case "prove":
		b := &ProveBody{UID: s.uid(account), Epoch: s.epoch(epoch), ID: s.id(w[3])}
		fmt.Sscan(w[4], &b.Seq)
		a, _, err := loadAccount(s.kv, s.uid(account))
		if err != nil {
			t.Fatal(err)
		}
		if r := a.registration(b.Epoch); r != nil {
			b.Sig = [64]byte(ed25519.Sign(s.key(arg(5, epoch)), proveMessage(b, recordHash(r.Record))))
		}
		c.Kind, c.Body = KindProve, encode(b)
	case "disable":
		b := &DisableBody{UID: s.uid(account), Epoch: s.epoch(epoch), Sig: []byte{}}
		a, _, err := loadAccount(s.kv, s.uid(account))
		if err != nil {
			t.Fatal(err)
		}
		if r := a.registration(b.Epoch); r != nil && len(w) > 3 {
			b.Sig = ed25519.Sign(s.key(w[3]), disableMessage(b, recordHash(r.Record)))
		}
		c.Kind, c.Body = KindDisable, encode(b)
	case "sweep":
		c.Kind, c.Body = KindSweep, encode(&RecordBody{s.uid(account)})
	case "again": // the last command once more, as a client does that heard nothing
		return s.apply(t, s.log[len(s.log)-1], s.lastUID(t))
	case "newer":
		return s.apply(t, []byte{version + 1, 1, 2, 3}, UID{})
	case "garbage":
		return s.apply(t, []byte{version, 1, 2, 3}, UID{})
	default:
		t.Fatalf("unknown line %q", line)
	}
	return s.apply(t, encodeCommand(c), s.uid(account))
}

func (s *tale) lastUID(t *testing.T) UID {
	c, err := parseCommand(s.log[len(s.log)-1])
	if err != nil {
		t.Fatal(err)
	}
	_, uid, err := parseBody(c.Kind, c.Body)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

func (s *tale) apply(t *testing.T, cmd []byte, uid UID) string {
	s.log = append(s.log, cmd)
	var o outcome
	if err := decode(new(Machine).Apply(s.kv, uint64(len(s.log)), cmd), &o); err != nil {
		t.Fatal(err)
	}
	a, known, err := loadAccount(s.kv, uid)
	if err != nil {
		t.Fatal(err)
	}
	out := o.Code.String()
	if o.Seq != 0 {
		out += fmt.Sprintf(", number %d", o.Seq)
	}
	if o.Retry != 0 {
		out += fmt.Sprintf(", in %v", seconds(o.Retry))
	}
	switch {
	case !known:
		return out + "; nothing there"
	case a.Gone != 0:
		return out + "; destroyed"
	}
	if a.Current != nil {
		out += fmt.Sprintf("; %d left", a.left())
	}
	if a.Former != nil {
		out += ", former lives"
	}
	if a.Staged != nil {
		out += ", one staged"
	}
	if a.Disable != nil {
		out += ", to be disabled"
	}
	return out
}

// The machine's rules, told as stories. The diff of an -update is the review.
func TestMachineProse(t *testing.T) {
	names, err := filepath.Glob("testdata/machine/*.txt")
	if err != nil || len(names) < 5 {
		t.Fatalf("%d stories: %v", len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s := &tale{kv: newMemKV(), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
			var out bytes.Buffer
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSuffix(line, "\n")
				switch {
				case line == "" || line[0] == '#':
					fmt.Fprintln(&out, line)
				case line[0] != '\t':
					fmt.Fprintf(&out, "%s\n\t%s\n", line, s.run(t, line))
				}
			}
			if *update {
				if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if out.String() != string(b) {
				t.Errorf("it went otherwise:\n%s", out.String())
			}
			s.checkReplay(t)
		})
	}
}

// checkReplay replays the whole log on a second machine: the same state.
func (s *tale) checkReplay(t *testing.T) {
	kv := newMemKV()
	for i, cmd := range s.log {
		new(Machine).Apply(kv, uint64(i+1), cmd)
	}
	if len(kv.m) != len(s.kv.m) {
		t.Fatalf("a replay gives %d keys, not %d", len(kv.m), len(s.kv.m))
	}
	for k, v := range s.kv.m {
		if !bytes.Equal(kv.m[k], v) {
			t.Errorf("a replay differs at %q", k[:1])
		}
	}
}

// A machine that skipped what it does not understand would differ from the others
// for ever.
func TestNewerCommandHalts(t *testing.T) {
	var halted error
	m := Machine{Halt: func(err error) { halted = err; panic("stopped") }}
	kv := newMemKV()
	func() {
		defer func() { recover() }()
		m.Apply(kv, 1, []byte{version + 1})
	}()
	if halted == nil || len(kv.m) != 0 {
		t.Errorf("halted with %v, %d keys written", halted, len(kv.m))
	}
}
