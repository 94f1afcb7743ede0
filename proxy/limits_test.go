package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections have no kernel below them, so their
// deadlines go by the clock of a synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// TestSlowClients: who sends headers, a body or nothing too slowly, or does not
// take the answer, is cut off in time; who is slow but steady is not.
func TestSlowClients(t *testing.T) {
	for name, tt := range map[string]struct {
		client func(net.Conn)
		after  time.Duration // the connection ends
		err    error         // of the handler
	}{
		"headers": {func(c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
			for range 100 { // a header without end
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, readHeaderTimeout, nil},
		"idle": {func(c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		}, idleTimeout, nil},
		"body": {func(c net.Conn) {
			_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
		}, bodyTimeout, os.ErrDeadlineExceeded},
		"steady body": {func(c net.Conn) {
			_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nConnection: close\r\n\r\n")
			for range 100 {
				time.Sleep(bodyTimeout - time.Second)
				_, _ = io.WriteString(c, "x")
			}
		}, 100 * (bodyTimeout - time.Second), nil},
		"answer": {func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
			_, _ = c.Read(make([]byte, 100)) // and no more
		}, bodyTimeout, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failed error
				s := Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					a := &answer{ResponseWriter: w, control: http.NewResponseController(w)}
					guarded := guard(a, r)
					_, failed = io.Copy(io.Discard, guarded.Body)
					if r.URL.Path == "/large" {
						_, failed = a.Write(make([]byte, 1<<20))
					}
				}), nil)
				l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
				ended := make(chan time.Time, 1)
				s.ConnState = func(_ net.Conn, state http.ConnState) {
					if state == http.StateClosed {
						ended <- time.Now()
					}
				}
				go s.Serve(l)
				start := time.Now()
				c := l.dial()
				if name != "answer" {
					go io.Copy(io.Discard, c)
				}
				tt.client(c)
				if took := (<-ended).Sub(start); took < tt.after || took > tt.after+2*time.Second {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				if !errors.Is(failed, tt.err) {
					t.Errorf("got %v, want %v", failed, tt.err)
				}
				c.Close()
				s.Close()
			})
		})
	}
}

// TestManyClients: of 1,000 uploads at once only some are in memory; the others
// wait with their headers. Most hang up then, and the rest get through.
func TestManyClients(t *testing.T) {
	const clients, patient, places, size = 1000, 64, 32, 256 << 10
	w := newBucket(t)
	w.g.admit = make(admission, places)
	half := make([]byte, size/2)
	gate := make(chan struct{})
	statuses := make(chan int, clients)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range clients {
		r := w.request(call{method: "PUT", path: fmt.Sprintf("/bucket/%d", i), payload: "UNSIGNED-PAYLOAD"})
		w.sign(r)
		r.Close = true
		r.ContentLength = size
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(half), waitFor(gate), bytes.NewReader(half)))
		go func() {
			status := 0
			defer func() { statuses <- status }()
			c, err := net.Dial("tcp", w.g.addr())
			if err != nil {
				return
			}
			defer c.Close()
			if i >= patient {
				go func() { <-gate; c.Close() }()
			}
			if r.Write(c) != nil {
				return
			}
			if res, err := http.ReadResponse(bufio.NewReader(c), r); err == nil {
				status = res.StatusCode
			}
		}()
	}
	for end := time.Now().Add(15 * time.Second); len(w.g.admit) < places && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	close(gate)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 128<<20 {
		t.Errorf("%d uploads of %d KiB hold %d MiB", clients, size>>10, grown>>20)
	}
	count := make(map[int]int)
	for range clients {
		count[<-statuses]++
	}
	if count[200] < patient {
		t.Errorf("answers: %v", count)
	}
	w.g.stop() // waits for the requests
	if len(w.g.admit) != 0 {
		t.Errorf("%d places are still taken", len(w.g.admit))
	}
}

// waitFor is an empty reader that ends when c is closed.
func waitFor(c <-chan struct{}) io.Reader {
	return readerFunc(func([]byte) (int, error) { <-c; return 0, io.EOF })
}
