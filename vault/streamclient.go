package vault

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"time"
)

// Stream is a client's connection to a node, for many requests at once. It is safe for
// concurrent use.
type Stream struct {
	node  Node
	conn  net.Conn
	slots chan struct{}

	mu      sync.Mutex
	asked   map[uint32]chan<- said // what is on its way
	last    uint32                 // id
	heard   uint64                 // answers
	out     []byte                 // not yet being written
	spare   []byte                 // to be the next out
	writing bool
	err     error // why it has ended
}

// said is what came for a request.
type said struct {
	status uint16
	body   []byte
	err    error
}

// ErrNoStream means that a node speaks HTTP only.
var ErrNoStream = errors.New("vault: the node offers no stream")

// DialStream connects to the holder of the node's TLS key. It fails with [ErrNoStream].
func DialStream(ctx context.Context, n Node) (*Stream, error) {
	host, err := hostOf(n)
	if err != nil {
		return nil, err
	}
	c := pinnedTLS(n)
	c.NextProtos = []string{streamProtocol, "http/1.1"}
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: c}
	ctx, cancel := context.WithTimeout(ctx, dialTime+handshakeTime)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	if conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != streamProtocol {
		return nil, errors.Join(ErrNoStream, conn.Close())
	}
	return newStream(n, conn), nil
}

func newStream(n Node, conn net.Conn) *Stream {
	st := &Stream{node: n, conn: conn, slots: make(chan struct{}, window), asked: make(map[uint32]chan<- said)}
	go st.read()
	return st
}

// Ask sends a request, with a nonce of its own, and returns the answer to it. It is believed
// once its root is verified by the node's identity key.
func (st *Stream) Ask(ctx context.Context, r *Request) (*Answer, Root, error) {
	rand.Read(r.Nonce[:])
	data := r.encode()
	if len(data) > maxRequest {
		return nil, Root{}, fmt.Errorf("vault: request of %d bytes, at most %d", len(data), maxRequest)
	}
	body, err := st.do(ctx, data)
	if err != nil {
		return nil, Root{}, err
	}
	if len(body) != streamSize(r.Kind) {
		return nil, Root{}, fmt.Errorf("%w: answer of %d bytes, want %d", ErrMalformed, len(body), streamSize(r.Kind))
	}
	var at attested
	if err := at.decode(body); err != nil {
		return nil, Root{}, err
	}
	root, err := at.root()
	if err != nil {
		return nil, Root{}, err
	}
	a, err := readAnswer(at.Answer, st.node, r.Manifest, data)
	return a, root, err
}

// do sends a request and waits for its answer. A stream from which nothing came for as long
// as a dead host may take is given up with it: the node may have gone without a word.
func (st *Stream) do(ctx context.Context, data []byte) ([]byte, error) {
	select {
	case st.slots <- struct{}{}:
		defer func() { <-st.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer, began := make(chan said, 1), time.Now()
	id, heard, err := st.send(data, answer)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		if a.err == nil && a.status != http.StatusOK {
			a.err = fmt.Errorf("vault: node answers %d %s", a.status, http.StatusText(int(a.status)))
		}
		return a.body, a.err
	case <-ctx.Done():
		st.mu.Lock()
		delete(st.asked, id)
		silent := st.heard == heard && time.Since(began) >= dialTime
		st.mu.Unlock()
		if silent {
			st.end(errors.New("the node is silent"))
		}
		return nil, ctx.Err()
	}
}

// send has a request written, now or by whoever is writing.
func (st *Stream) send(data []byte, answer chan<- said) (id uint32, heard uint64, err error) {
	st.mu.Lock()
	if st.err != nil {
		defer st.mu.Unlock()
		return 0, 0, st.err
	}
	st.last++
	id, heard = st.last, st.heard
	st.asked[id] = answer
	st.out = append(frame{id: id, length: uint16(len(data))}.append(st.out), data...)
	first := !st.writing
	st.writing = true
	st.mu.Unlock()
	if first {
		st.flush()
	}
	return id, heard, nil
}

// flush writes what waits, and leaves to another what comes to wait meanwhile: whoever
// calls it has an answer to wait for.
func (st *Stream) flush() {
	runtime.Gosched() // what others are about to send goes along
	st.mu.Lock()
	out := st.out
	st.out = st.spare[:0]
	st.mu.Unlock()
	st.conn.SetWriteDeadline(time.Now().Add(handshakeTime))
	if _, err := st.conn.Write(out); err != nil {
		st.end(err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.spare = out
	if st.writing = len(st.out) > 0; st.writing {
		go st.flush()
	}
}

// read hands out the answers until the connection ends.
func (st *Stream) read() {
	r := bufio.NewReaderSize(st.conn, 16<<10)
	for {
		f, body, err := readFrame(r, answerSize)
		if err != nil {
			st.end(err)
			return
		}
		st.mu.Lock()
		to := st.asked[f.id]
		delete(st.asked, f.id)
		st.heard++
		st.mu.Unlock()
		if to != nil { // else nobody waits any more
			to <- said{status: f.status, body: body}
		}
	}
}

// end closes the connection and tells all who wait. The first reason stays.
func (st *Stream) end(err error) {
	st.conn.Close()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil {
		return
	}
	st.err = fmt.Errorf("vault: the stream to the node has ended: %w", err)
	for _, to := range st.asked {
		to <- said{err: st.err}
	}
	clear(st.asked)
}

func (st *Stream) ended() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err != nil
}

// Close ends the stream; what is on its way fails.
func (st *Stream) Close() { st.end(net.ErrClosed) }

// line is a client's way to a node: a stream, made when it is needed and again when it has ended.
type line struct {
	node Node
	turn chan struct{} // of one, held by whoever looks at the rest
	st   *Stream
	none bool // the node offers none
}

func newLine(n Node) *line { return &line{node: n, turn: make(chan struct{}, 1)} }

// ask returns the node's answer; it has signed it. Any request may be sent again, so
// it is, over a new stream, when one from before has ended.
func (l *line) ask(ctx context.Context, r *Request) (*Answer, error) {
	for {
		st, fresh, err := l.stream(ctx)
		if err != nil {
			return nil, err
		}
		a, root, err := st.Ask(ctx, r)
		if err != nil && !fresh && st.ended() && ctx.Err() == nil {
			continue
		}
		if err == nil && !root.Verify(l.node.Identity) {
			return nil, errUnsigned
		}
		return a, err
	}
}

// stream returns one that has not ended. fresh says that it is new.
func (l *line) stream(ctx context.Context) (st *Stream, fresh bool, err error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if l.none {
		return nil, false, ErrNoStream
	}
	if l.st != nil && !l.st.ended() {
		return l.st, false, nil
	}
	l.st, err = DialStream(ctx, l.node)
	l.none = errors.Is(err, ErrNoStream)
	return l.st, true, err
}

func (l *line) close() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.st != nil {
		l.st.Close()
	}
}

// hostOf returns host and port of a node's URL.
func hostOf(n Node) (string, error) {
	u, err := url.Parse(n.URL)
	if err != nil || u.Scheme != "https" {
		return "", ErrNoStream
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	return u.Host, nil
}
