package vault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"coffer/ppss"
)

// pipe connects a client to the node without a network. ended is closed when the node
// has done with it.
func (n *testNode) pipe(ctx context.Context) (conn net.Conn, ended chan struct{}) {
	a, b := net.Pipe()
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		n.server.serveStream(ctx, b)
	}()
	return a, ended
}

// recordRequest is one that any node answers at once.
func recordRequest(f *testFleet, account string) *Request {
	now := time.Now()
	token := IssueToken(f.operator, f.manifest.Fleet, account, now, now.Add(time.Hour))
	return &Request{
		Version: version, Kind: KindRecord, Manifest: f.manifest.Hash(), Token: []byte(token),
		Body: encode(&RecordBody{UID: AccountUID(f.manifest.Fleet, account)}),
	}
}

// Answers that come while the node signs share the next signature, each is bound to its
// request, and one that comes alone is not made to wait.
func TestAnswersShareASignature(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		nd := f.nodes[0]
		var signed atomic.Int64
		nd.hsm.onSign(func() error {
			signed.Add(1)
			return nil
		})
		var streams []*Stream
		for range 3 {
			conn, _ := nd.pipe(context.Background())
			streams = append(streams, newStream(f.manifest.Nodes[0], conn))
			defer streams[len(streams)-1].Close()
		}
		var mu sync.Mutex
		roots := make(map[Root]int)
		ask := func(i int) {
			account := fmt.Sprint("user-", i)
			a, root, err := streams[i%3].Ask(context.Background(), recordRequest(f, account))
			if err != nil || a.Code != CodeNone || a.UID != AccountUID(f.manifest.Fleet, account) || !root.Verify(f.manifest.Nodes[0].Identity) {
				t.Errorf("%s: %+v, %v", account, a, err)
			}
			mu.Lock()
			defer mu.Unlock()
			roots[root]++
		}
		start := time.Now()
		ask(0)
		if signed.Load() != 1 || time.Since(start) != 0 {
			t.Errorf("an answer alone: %d signatures after %v", signed.Load(), time.Since(start))
		}
		nd.hsm.onSign(func() error {
			signed.Add(1)
			time.Sleep(time.Minute / 10)
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { ask(1) })
		time.Sleep(time.Second)
		for i := range 150 {
			wg.Go(func() { ask(2 + i) })
		}
		wg.Wait()
		if signed.Load() != 3 || len(roots) != 3 {
			t.Errorf("%d signatures, %d roots, want one for each of two answers and one for 150", signed.Load(), len(roots))
		}
		nd.hsm.onSign(func() error { return errors.New("no session") })
		if _, _, err := streams[0].Ask(context.Background(), recordRequest(f, "anna")); err == nil || streams[0].ended() {
			t.Errorf("an answer that is not signed: %v", err)
		}
		nd.hsm.onSign(nil)
		ask(200)
	})
}

// countingAuth counts the requests that are carried out.
type countingAuth struct {
	Auth
	checked atomic.Int64
}

func (a *countingAuth) Check(token []byte, uid UID, at time.Time) error {
	a.checked.Add(1)
	return a.Auth.Check(token, uid, at)
}

// What a hostile client does costs the node what its window allows, and not for long.
func TestStreamOfAHostileClient(t *testing.T) {
	request := func(f *testFleet) []byte {
		b := recordRequest(f, "anna").encode()
		return append(frame{1, 0, uint16(len(b))}.append(nil), b...)
	}
	for name, tt := range map[string]struct {
		do       func(t *testing.T, f *testFleet, conn net.Conn)
		from, to time.Duration // after which the node has closed the stream
		answered int
	}{
		"says nothing": {func(*testing.T, *testFleet, net.Conn) {}, frameTime, frameTime, 0},
		"is silent after a request": {func(t *testing.T, f *testFleet, conn net.Conn) {
			conn.Write(request(f))
		}, streamIdle, streamIdle, 1},
		"stops in the middle": {func(t *testing.T, f *testFleet, conn net.Conn) {
			conn.Write(request(f)[:20])
		}, frameTime, frameTime, 0},
		"sends a byte now and then": {func(t *testing.T, f *testFleet, conn net.Conn) {
			for _, b := range request(f) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(frameTime - 1)
			}
		}, frameTime, 2 * frameTime, 0},
		"announces too much": {func(t *testing.T, f *testFleet, conn net.Conn) {
			conn.Write(frame{1, 0, maxRequest + 1}.append(nil))
		}, 0, 0, 0},
		"sends an answer": {func(t *testing.T, f *testFleet, conn net.Conn) {
			conn.Write(frame{1, 200, 0}.append(nil))
		}, 0, 0, 0},
		"goes away": {func(t *testing.T, f *testFleet, conn net.Conn) {
			conn.Write(request(f))
			time.Sleep(time.Millisecond)
			conn.Close()
		}, time.Millisecond, time.Millisecond, 1},
		"never reads": {func(t *testing.T, f *testFleet, conn net.Conn) {
			for b := request(f); ; {
				if _, err := conn.Write(b); err != nil {
					return
				}
			}
		}, 2 * callTime, 2*callTime + 2*time.Second, window},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFleet(t, 1)
				defer f.close()
				auth := &countingAuth{Auth: f.auth}
				f.nodes[0].halt()
				f.auth = auth
				f.nodes[0].start()
				conn, ended := f.nodes[0].pipe(context.Background())
				defer conn.Close()
				start := time.Now()
				if name != "never reads" {
					go io.Copy(io.Discard, conn)
				}
				var wg sync.WaitGroup
				wg.Go(func() { tt.do(t, f, conn) })
				<-ended
				if took := time.Since(start); took < tt.from || took > tt.to {
					t.Errorf("the node closes after %v, want %v to %v", took, tt.from, tt.to)
				}
				wg.Wait()
				if n := int(auth.checked.Load()); n != tt.answered {
					t.Errorf("%d requests are carried out, want %d", n, tt.answered)
				}
			})
		})
	}
}

// The limits hold in a stream, for each request; and what is no request does not end it.
func TestStreamIsLimited(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		f.nodes[0].server.limits.node = rate.NewLimiter(1, 2)
		conn, _ := f.nodes[0].pipe(context.Background())
		st := newStream(f.manifest.Nodes[0], conn)
		defer st.Close()
		ask := func() error {
			_, _, err := st.Ask(context.Background(), recordRequest(f, "anna"))
			return err
		}
		if _, err := st.do(context.Background(), []byte("no request")); err == nil {
			t.Error("what is no request is answered")
		}
		if err := ask(); err != nil {
			t.Error(err)
		}
		if err := ask(); err == nil || st.ended() {
			t.Errorf("one request too many: %v", err)
		}
		time.Sleep(time.Second)
		if err := ask(); err != nil {
			t.Error(err)
		}
	})
}

// failingAuth panics, as a mistake in this program would.
type failingAuth struct{}

func (failingAuth) Check([]byte, UID, time.Time) error { panic("mistake") }

// One request that meets a mistake must not end the node.
func TestStreamOutlivesAMistake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		f.nodes[0].halt()
		f.auth = failingAuth{}
		f.nodes[0].start()
		conn, _ := f.nodes[0].pipe(context.Background())
		st := newStream(f.manifest.Nodes[0], conn)
		defer st.Close()
		for range 2 {
			if _, _, err := st.Ask(context.Background(), recordRequest(f, "anna")); err == nil || st.ended() {
				t.Errorf("a mistake is answered with %v", err)
			}
		}
	})
}

// A node that stops answers what it has begun, and nothing after it.
func TestStreamIsDrained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		f.nodes[0].hsm.onSign(func() error {
			time.Sleep(5 * time.Second)
			return nil
		})
		ctx, stop := context.WithCancel(context.Background())
		conn, ended := f.nodes[0].pipe(ctx)
		st := newStream(f.manifest.Nodes[0], conn)
		defer st.Close()
		time.AfterFunc(time.Second, stop)
		if _, _, err := st.Ask(context.Background(), recordRequest(f, "anna")); err != nil {
			t.Errorf("a request on its way when the node is to stop: %v", err)
		}
		<-ended
		if _, _, err := st.Ask(context.Background(), recordRequest(f, "anna")); err == nil {
			t.Error("a node that has stopped answers")
		}
	})
}

// What a hostile node sends is an error of one request, or of the stream, and never an answer.
func TestStreamOfAHostileNode(t *testing.T) {
	for name, answer := range map[string]func(id uint32, good []byte) []byte{ // good answers the request before
		"too long": func(id uint32, _ []byte) []byte { return frame{id, 200, answerSize + 1}.append(nil) },
		"short":    func(id uint32, good []byte) []byte { return append(frame{id, 200, 100}.append(nil), good[:100]...) },
		"in half": func(id uint32, good []byte) []byte {
			return append(frame{id, 200, answerSize}.append(nil), good[:100]...)
		},
		"of another size": nil, // it is right otherwise
		"refusal":         func(id uint32, _ []byte) []byte { return frame{id, 503, 0}.append(nil) },
		"nothing":         func(id uint32, _ []byte) []byte { return nil },
		"another's id": func(id uint32, good []byte) []byte {
			return append(frame{id + 1, 200, answerSize}.append(nil), good...)
		},
		"an old one": func(id uint32, good []byte) []byte { return append(frame{id, 200, answerSize}.append(nil), good...) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFleet(t, 1)
				defer f.close()
				real, _ := f.nodes[0].pipe(context.Background())
				honest := newStream(f.manifest.Nodes[0], real)
				defer honest.Close()
				r := recordRequest(f, "anna")
				good, err := honest.do(context.Background(), r.encode())
				if err != nil || len(good) != answerSize {
					t.Fatalf("%d bytes, %v", len(good), err)
				}
				a, b := net.Pipe()
				defer b.Close()
				go func() {
					for {
						f, data, err := readFrame(b, maxRequest)
						if err != nil {
							return
						}
						if answer == nil {
							now, _ := honest.do(context.Background(), data)
							b.Write(append(frame{f.id, 200, 2048}.append(nil), now[:2048]...))
							continue
						}
						b.Write(answer(f.id, good))
					}
				}()
				st := newStream(f.manifest.Nodes[0], a)
				defer st.Close() // after the lock below is free again
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if a, _, err := st.Ask(ctx, r); err == nil {
					t.Errorf("it is taken as %+v", a)
				}
				st.mu.Lock()
				defer st.mu.Unlock()
				if len(st.asked) != 0 || len(st.slots) != 0 {
					t.Error("the stream still waits for an answer")
				}
			})
		})
	}
}

// A node that has gone without a word costs one request its time, not each one after it; one
// that is only slow, or whose answer is not waited for, keeps its stream.
func TestStreamToASilentNode(t *testing.T) {
	for name, tt := range map[string]struct {
		patience, answers time.Duration // of the client; between answers to others
		ended             bool
	}{
		"silent":     {dialTime, time.Hour, true},
		"slow":       {dialTime, dialTime / 2, false},
		"not needed": {dialTime / 2, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				a, b := net.Pipe()
				st := newStream(Node{}, a)
				ctx, cancel := context.WithTimeout(context.Background(), tt.patience)
				defer cancel()
				go io.Copy(io.Discard, b)
				other := time.AfterFunc(tt.answers, func() { b.Write(frame{99, 200, 0}.append(nil)) })
				if _, err := st.do(ctx, []byte("request")); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if st.ended() != tt.ended {
					t.Errorf("the stream has ended: %v", st.ended())
				}
				other.Stop()
				st.Close()
			})
		})
	}
}

// Nodes and clients of the release before speak HTTP only: all four pairs work, streams are
// used where both know them, and a stream that has ended is made anew without an error.
func TestStreamsBesideHTTP(t *testing.T) {
	f, listeners, certs := listeningFleet(t)
	defer f.close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	former := &http.Server{Handler: f.nodes[0].server, TLSConfig: &tls.Config{Certificates: certs[:1], MinVersion: tls.VersionTLS13}}
	defer former.Close()
	go former.ServeTLS(listeners[0], "", "")
	for i := 1; i < 3; i++ {
		go f.nodes[i].server.Serve(ctx, listeners[i], certs[i])
	}
	network := func(c *ClientConfig) { c.Transport = nil }
	c := f.client("anna", network)
	defer c.Close()
	key := f.register(c, "right")
	for i, n := range c.nodes {
		if streams := n.line.st != nil; streams != (i > 0) || n.line.none != (i == 0) {
			t.Errorf("node %d: a stream: %v", i, streams)
		}
	}
	for _, n := range c.nodes[1:] {
		n.line.st.conn.Close()
	}
	if got, err := c.Recover(ctx, "right"); err != nil || got != key {
		t.Errorf("after streams have ended: %v", err)
	}
	old := f.client("anna", network)
	defer old.Close()
	for _, n := range old.nodes {
		n.line = nil
	}
	if got, err := old.Recover(ctx, "right"); err != nil || got != key {
		t.Errorf("a client that speaks HTTP only: %v", err)
	}
	// The node closes a stream from before just when it is asked.
	l := newLine(f.manifest.Nodes[1])
	near, far := net.Pipe()
	l.st = newStream(l.node, near)
	go func() {
		readFrame(far, maxRequest)
		far.Close()
	}()
	if a, err := l.ask(ctx, recordRequest(f, "anna")); err != nil || a.Code != CodeOK {
		t.Errorf("a stream ends under a request: %+v, %v", a, err)
	}
	l.close()
	// Somebody else's identity, behind the right TLS key.
	liar := newLine(f.manifest.Nodes[1])
	liar.node.Identity = f.manifest.Nodes[2].Identity
	if _, err := liar.ask(ctx, recordRequest(f, "anna")); !errors.Is(err, errUnsigned) {
		t.Errorf("a signature by another key: %v", err)
	}
	liar.close()
}

// All answers to requests of a kind have one size, and the longest fits.
func TestStreamAnswersAreOfOneSize(t *testing.T) {
	_, point := ppss.GenerateKey()
	long := make([]byte, 32)
	for i := range long {
		long[i] = 'n'
	}
	a := &Answer{
		Version: version, Node: string(long), Code: codeLast, Leader: string(long), Retry: 1<<32 - 1, Left: 255, Failed: 255,
		Last: 1<<64 - 1, Disable: 1<<64 - 1, Seq: 1<<64 - 1, Element: point, Result: point, Public: point, Used: 1<<32 - 1,
	}
	for kind := KindRecord; kind <= KindState; kind++ {
		if kind == KindRecord {
			a.Record, a.Former = make([]byte, maxRecord), make([]byte, maxRecord)
		} else {
			a.Record, a.Former = nil, nil
		}
		at := &attested{Answer: a.encode(), Sides: 255, Path: make([]byte, 32*maxPath)}
		for _, at := range []*attested{at, {}} {
			if b, err := at.encode(streamSize(kind)); err != nil || len(b) != streamSize(kind) {
				t.Errorf("%s: %d bytes, %v", kindNames[kind], len(b), err)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		conn, _ := f.nodes[0].pipe(context.Background())
		st := newStream(f.manifest.Nodes[0], conn)
		defer st.Close()
		for kind := KindRecord; kind <= KindState; kind++ {
			if kind == KindSweep {
				continue
			}
			r := recordRequest(f, "anna")
			for _, r.Manifest = range [][32]byte{{}, r.Manifest} {
				r.Kind = kind
				if b, err := st.do(context.Background(), r.encode()); err != nil || len(b) != streamSize(kind) {
					t.Errorf("%s: %d bytes, %v", kindNames[kind], len(b), err)
				}
			}
		}
	})
}
