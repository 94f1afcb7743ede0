package chaos

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"coffer/vault"
)

// opKind is a kind of command that moves an account's budget.
type opKind uint8

const (
	opAttempt opKind = iota
	opProve
	opCommit
)

// op is one command as its client saw it: all requests with the same bytes are
// one, from the first that was sent to the first answer that decides.
type op struct {
	kind    opKind
	uid     vault.UID
	id      vault.AttemptID
	element [33]byte
	proven  bool   // of a commit: the epoch before signed it
	seq     uint64 // of a proof: given; of an attempt: answered
	left    int    // of an attempt that was sent once: attempts left; else -1
	sent    int
	call    int64 // ns since the history began
	ret     int64 // [math.MaxInt64] if unknown
	known   bool
	code    vault.Code
}

// eval is an evaluation that a node gave.
type eval struct {
	node    string
	uid     vault.UID
	id      vault.AttemptID
	element [33]byte
	seq     uint64
}

// history is what went over the wire between clients and nodes, read by the
// clients' transports.
type history struct {
	once  sync.Once
	began time.Time
	mu    sync.Mutex
	ops   []*op
	evals []eval
}

func (h *history) now() int64 {
	h.once.Do(func() { h.began = time.Now() })
	return int64(time.Since(h.began))
}

func (h *history) all() ([]*op, []eval) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ops, h.evals
}

// recorder is the transport of one client to one node.
type recorder struct {
	h    *history
	open *commands
	next http.RoundTripper
}

// commands are those of one client, by their bytes; its transports share them.
type commands struct {
	mu    sync.Mutex
	known map[string]*op
}

// RoundTrip notes the request before it is sent, and its answer.
func (r *recorder) RoundTrip(hr *http.Request) (*http.Response, error) {
	body, err := hr.GetBody()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var q vault.Request
	if err := cbor.Unmarshal(data, &q); err != nil {
		return nil, err
	}
	o := r.called(&q)
	resp, err := r.next.RoundTrip(hr)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	out, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(out))
	a, err := readAnswer(out)
	if err != nil {
		return nil, err
	}
	r.answered(&q, o, a)
	return resp, nil
}

// readAnswer reads what the client will verify.
func readAnswer(out []byte) (*vault.Answer, error) {
	var signed struct {
		Answer []byte   `cbor:"1,keyasint"`
		Sig    [64]byte `cbor:"2,keyasint"`
	}
	if _, err := cbor.UnmarshalFirst(out, &signed); err != nil {
		return nil, err
	}
	a := new(vault.Answer)
	return a, cbor.Unmarshal(signed.Answer, a)
}

// called returns the command that the request asks for, nil if it is none that counts.
func (r *recorder) called(q *vault.Request) *op {
	o := &op{ret: math.MaxInt64, left: -1}
	var err error
	switch q.Kind {
	case vault.KindAttempt:
		var b vault.AttemptBody
		err = cbor.Unmarshal(q.Body, &b)
		o.kind, o.uid, o.id, o.element = opAttempt, b.UID, b.ID, b.Element
	case vault.KindProve:
		var b vault.ProveBody
		err = cbor.Unmarshal(q.Body, &b)
		o.kind, o.uid, o.id, o.seq = opProve, b.UID, b.ID, b.Seq
	case vault.KindCommit:
		var b vault.CommitBody
		err = cbor.Unmarshal(q.Body, &b)
		o.kind, o.uid, o.proven = opCommit, b.UID, len(b.Old) != 0
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	r.open.mu.Lock()
	defer r.open.mu.Unlock()
	key := string(q.Kind) + string(q.Body)
	if known := r.open.known[key]; known != nil {
		known.sent++
		return known
	}
	o.sent, o.call = 1, r.h.now()
	r.open.known[key] = o
	r.h.mu.Lock()
	r.h.ops = append(r.h.ops, o)
	r.h.mu.Unlock()
	return o
}

// answered notes an answer. Those that decide nothing leave the command open: it
// may take effect at any later time.
func (r *recorder) answered(q *vault.Request, o *op, a *vault.Answer) {
	if q.Kind == vault.KindEval && a.Code == vault.CodeOK {
		r.h.mu.Lock()
		r.h.evals = append(r.h.evals, eval{a.Node, a.UID, a.ID, a.Element, a.Seq})
		r.h.mu.Unlock()
	}
	switch a.Code {
	case vault.CodeNotLeader, vault.CodeRetry, vault.CodeLimited, vault.CodeRegression, vault.CodeHalted, vault.CodeManifest:
		return
	}
	if o == nil || o.known {
		return
	}
	r.open.mu.Lock()
	defer r.open.mu.Unlock()
	o.known, o.code, o.ret = true, a.Code, r.h.now()
	if o.kind == opAttempt {
		o.seq = a.Seq
		if o.sent == 1 {
			o.left = int(a.Left)
		}
	}
}

// withLost adds what an attempt may have done before the answer that decided: one that
// was sent again may have been counted the first time, its reply lost, and forgiven by
// another's proof since. The machine has forgotten it then. It counts it once more, or
// says that its epoch is gone. It is the same element, so nobody has won a guess by it.
func withLost(ops []*op) []*op {
	all := slices.Clone(ops)
	for _, o := range ops {
		if o.kind == opAttempt && o.known && o.sent > 1 {
			all = append(all, &op{kind: opAttempt, uid: o.uid, id: o.id, element: o.element, left: -1, sent: o.sent, call: o.call, ret: o.ret})
		}
	}
	return all
}

func perAccount(ops []*op) map[vault.UID][]*op {
	m := make(map[vault.UID][]*op)
	for _, o := range ops {
		m[o.uid] = append(m[o.uid], o)
	}
	return m
}
