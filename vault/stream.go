package vault

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A stream is a connection with many requests on their way at once, for clients that ask
// much or often: TLS's ALPN chooses it, at the same address, and HTTP stays for those
// that do not know it. A frame is a head of eight bytes and what it announces.
const streamProtocol = "coffer-vault/1"

const (
	frameHead  = 8
	window     = 64 // requests of a stream on their way: the node reads no more before it has sent an answer
	frameTime  = 5 * time.Second
	streamIdle = time.Minute // without a request
)

// frame announces a request (status 0) or an answer (of HTTP: 200, or why there is none).
type frame struct {
	id     uint32 // the client's: answers come in any order
	status uint16
	length uint16
}

func (f frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, f.id)
	b = binary.BigEndian.AppendUint16(b, f.status)
	return binary.BigEndian.AppendUint16(b, f.length)
}

// readFrame reads a frame of at most limit bytes after its head.
func readFrame(r io.Reader, limit int) (f frame, data []byte, err error) {
	var b [frameHead]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return f, nil, err
	}
	f = frame{binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])}
	if int(f.length) > limit {
		return f, nil, fmt.Errorf("%w: frame of %d bytes, at most %d", ErrMalformed, f.length, limit)
	}
	data = make([]byte, f.length)
	_, err = io.ReadFull(r, data)
	return f, data, err
}

// streamSize is that of all answers in a stream to requests of a kind, whatever they say.
func streamSize(k Kind) int {
	switch k {
	case KindRecord, KindHead, KindState:
		return answerSize
	}
	return 1024
}

// stream is a node's end.
type stream struct {
	s     *Server
	conn  net.Conn
	slots chan struct{}      // taken by requests on their way
	stop  context.CancelFunc // of those

	mu      sync.Mutex
	out     []byte // not yet being written
	answers int    // in out
	writing bool
}

// serveStream answers the requests that come over conn until the client has gone, breaks
// the rules or is silent, or ctx ends: then those on their way are answered still.
func (s *Server) serveStream(ctx context.Context, conn net.Conn) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	st := &stream{s: s, conn: conn, slots: make(chan struct{}, window), stop: stop}
	defer conn.Close()
	defer stop()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	err := st.serve(ctx, work)
	if ctx.Err() == nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the addresses
		}
		s.log.Debug("a stream has ended", zap.Error(err))
		return
	}
	for range window { // none is on its way when all slots are free
		select {
		case st.slots <- struct{}{}:
		case <-time.After(callTime):
			return
		}
	}
}

// serve reads requests until it cannot.
func (st *stream) serve(ctx, work context.Context) error {
	r := bufio.NewReaderSize(st.conn, 4<<10)
	remote := st.conn.RemoteAddr().String()
	idle := frameTime // who connects has something to ask
	for {
		f, data, err := st.next(ctx, r, idle)
		if err != nil {
			return err
		}
		select {
		case st.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if work.Err() != nil { // nobody takes the answers, though requests are in r still
			return work.Err()
		}
		if !st.s.limits.address(remote) {
			st.send(frame{id: f.id, status: http.StatusTooManyRequests}, nil)
			continue
		}
		idle = streamIdle
		go st.request(work, f.id, data)
	}
}

// next reads a request. One that has begun must be there soon.
func (st *stream) next(ctx context.Context, r *bufio.Reader, idle time.Duration) (f frame, data []byte, err error) {
	if r.Buffered() == 0 {
		if err := st.within(ctx, idle); err != nil {
			return f, nil, err
		}
		if _, err := r.Peek(1); err != nil {
			return f, nil, err
		}
	}
	if err := st.within(ctx, frameTime); err != nil {
		return f, nil, err
	}
	f, data, err = readFrame(r, maxRequest)
	if err == nil && f.status != 0 {
		err = fmt.Errorf("%w: request with status %d", ErrMalformed, f.status)
	}
	return f, data, err
}

// within bounds the reads that follow, unless ctx has ended.
func (st *stream) within(ctx context.Context, d time.Duration) error {
	now := time.Now()
	if err := errors.Join(st.conn.SetReadDeadline(now.Add(d)), st.conn.SetWriteDeadline(now.Add(2*callTime))); err != nil {
		return err // TLS may have to write before it has read
	}
	return ctx.Err() // asked after: when ctx ends, the deadline is set to the past
}

// request carries a request out. A mistake in this program that one request meets
// must not end it for all: net/http does the same.
func (st *stream) request(ctx context.Context, id uint32, data []byte) {
	defer func() {
		if v := recover(); v != nil {
			st.s.log.Error("a request was not carried out: this is a bug", zap.Any("panic", v), zap.Stack("stack"))
			st.send(frame{id: id, status: http.StatusServiceUnavailable}, nil)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, kind, err := st.s.carryOut(ctx, data)
	if err != nil {
		st.send(frame{id: id, status: http.StatusBadRequest}, nil)
		return
	}
	st.s.signing.add(unsigned{st, id, kind, answer})
}

// send has a frame written, now or after those that are waiting.
func (st *stream) send(f frame, body []byte) {
	if st.put(f, body) {
		st.flush()
	}
}

// put adds a frame to those that wait, and says whether the caller has to flush them.
func (st *stream) put(f frame, body []byte) (first bool) {
	f.length = uint16(len(body))
	st.mu.Lock()
	defer st.mu.Unlock()
	st.out = append(f.append(st.out), body...)
	st.answers++
	first, st.writing = !st.writing, true
	return first
}

// flush writes what waits, and what comes to wait meanwhile. A slot is free
// when its answer has left: so no more than window answers ever wait.
func (st *stream) flush() {
	var spare []byte
	for {
		st.mu.Lock()
		out, n := st.out, st.answers
		st.out, st.answers, st.writing = spare[:0], 0, n > 0
		st.mu.Unlock()
		if n == 0 {
			return
		}
		st.conn.SetWriteDeadline(time.Now().Add(2 * callTime))
		if _, err := st.conn.Write(out); err != nil {
			st.stop()
			st.conn.Close() // the reader ends the stream
		}
		for range n {
			<-st.slots
		}
		spare = out
	}
}

// unsigned is an answer that waits for the node's signature.
type unsigned struct {
	to     *stream
	id     uint32
	kind   Kind
	answer []byte
}

// signing signs answers, together those that have come while the ones before were being signed.
// What waits is bounded by the windows of the streams.
type signing struct {
	s       *Server
	mu      sync.Mutex
	waiting []unsigned
	busy    bool
}

func (g *signing) add(u unsigned) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, u)
	if !g.busy {
		g.busy = true
		go g.run()
	}
}

// run signs until nothing waits.
func (g *signing) run() {
	for {
		for n := -1; n != g.count() && n < maxLeaves; { // whoever can go on may have an answer, too; if nobody can, this costs nothing
			n = g.count()
			runtime.Gosched()
		}
		g.mu.Lock()
		n := min(len(g.waiting), maxLeaves)
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		if n == 0 {
			g.waiting, g.busy = nil, false
		}
		g.mu.Unlock()
		if n == 0 {
			return
		}
		g.sign(batch)
	}
}

func (g *signing) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// sign signs a batch and sends it off.
func (g *signing) sign(batch []unsigned) {
	leaves := make([][32]byte, len(batch))
	for i, u := range batch {
		leaves[i] = leafHash(u.answer)
	}
	root, paths := hashTree(leaves)
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	sig, err := g.s.c.HSM.Sign(ctx, treeDigest(root))
	if err != nil {
		g.s.log.Error("answers were not signed", zap.Int("answers", len(batch)), zap.Error(err))
	}
	var flush []*stream
	for i, u := range batch {
		f, body := frame{id: u.id, status: http.StatusServiceUnavailable}, []byte(nil)
		if err == nil {
			at := attested{u.answer, sig, paths[i].sides, paths[i].hashes}
			if b, err := at.encode(streamSize(u.kind)); err == nil {
				f.status, body = http.StatusOK, b
			}
		}
		if u.to.put(f, body) {
			flush = append(flush, u.to)
		}
	}
	for _, st := range flush { // each on its own: a client that does not read delays no other
		go st.flush()
	}
}

var errTooLong = errors.New("vault: answer does not fit its size")
