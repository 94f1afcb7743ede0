package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning means that no daemon answers at the control socket.
var ErrNotRunning = errors.New("daemon: is not running")

// answerTimeout bounds requests that the daemon answers at once.
const answerTimeout = 30 * time.Second

// Client asks a daemon over its control socket.
type Client struct {
	http   *http.Client
	secret *http.Client // asks only a daemon of this user, or of root
}

// NewClient makes a client of the daemon with the control socket at path. It
// does not connect.
func NewClient(path string) *Client {
	return &Client{asking(path, nil), asking(path, trusted)}
}

// asking is a client over the socket at path, whose other end must please check.
func asking(path string, check func(uid uint32) bool) *http.Client {
	var dialer net.Dialer
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, "unix", path)
			if err != nil || check == nil {
				return c, err
			}
			if uid, err := peer(c); err != nil || !check(uid) {
				c.Close()
				return nil, errors.Join(ErrStranger, err)
			}
			return c, nil
		},
		MaxIdleConns: 1,
	}}
}

// ErrStranger means that the control socket is not held by this user's daemon, nor by
// root: it was not given the key.
var ErrStranger = errors.New("daemon: the control socket is another user's")

// trusted says whether the kernel names this user or root as the one who listens.
// Whoever can put a socket in the daemon's place would be sent the key else.
func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// Status asks how the daemon is. It asks again when the daemon dies over the
// answer: the socket of systemd outlives it.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	for range 4 {
		st, err = c.status(ctx, http.MethodGet, "status", nil)
		if !cutOff(err) {
			break
		}
	}
	return st, err
}

// cutOff says that the other end went away before it had answered.
func cutOff(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// Pause is [Daemon.Pause].
func (c *Client) Pause(ctx context.Context, length time.Duration) (Status, error) {
	body := map[string]string{}
	if length > 0 {
		body["for"] = length.String()
	}
	b, err := json.Marshal(body)
	if err != nil {
		return Status{}, err
	}
	return c.status(ctx, http.MethodPost, "pause", b)
}

// Resume is [Daemon.Resume].
func (c *Client) Resume(ctx context.Context) (Status, error) {
	return c.status(ctx, http.MethodPost, "resume", nil)
}

// Unlock hands the backup key to the daemon. A key that is not that of the store
// is refused. ErrStranger, ErrNotRunning.
func (c *Client) Unlock(ctx context.Context, key [32]byte) (Status, error) {
	defer clear(key[:])
	return c.answer(ctx, c.secret, http.MethodPost, "unlock", key[:])
}

// Lock has the daemon forget the key.
func (c *Client) Lock(ctx context.Context) (Status, error) {
	return c.status(ctx, http.MethodPost, "lock", nil)
}

// RunTask is [Daemon.RunTask]: the error of the task is in the status that it
// returns. ErrLocked, ErrUnknownTask, ErrNotRunning.
func (c *Client) RunTask(ctx context.Context, name string) (TaskStatus, error) {
	b, err := json.Marshal(map[string]string{"task": name})
	if err != nil {
		return TaskStatus{}, err
	}
	resp, err := do(ctx, c.http, http.MethodPost, "task", b) // as long as it takes
	if err != nil {
		return TaskStatus{}, err
	}
	defer resp.Body.Close()
	var st TaskStatus
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&st); err != nil {
		return TaskStatus{}, fmt.Errorf("the daemon stopped before the task ended: %w", err)
	}
	return st, nil
}

// ReloadConfig is [Daemon.ReloadConfig].
func (c *Client) ReloadConfig(ctx context.Context) (Configured, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := do(ctx, c.http, http.MethodPost, "reload", nil)
	if err != nil {
		return Configured{}, err
	}
	defer resp.Body.Close()
	var now Configured
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&now); err != nil {
		return Configured{}, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return now, nil
}

// TestNotify is [Daemon.TestNotify].
func (c *Client) TestNotify(ctx context.Context) ([]Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerTimeout)
	defer cancel()
	resp, err := do(ctx, c.http, http.MethodPost, "notify", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []Delivery
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return all, nil
}

// LoginURL asks for a link that opens the local page, once and within minutes.
// ErrNoPage, ErrNotRunning.
func (c *Client) LoginURL(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := do(ctx, c.http, http.MethodPost, "login", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var l login
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&l); err != nil {
		return "", fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return l.URL, nil
}

// Backup is [Daemon.Backup]: it returns the last event of each source. When ctx
// ends, the backup goes on. ErrLocked, ErrUnknownSource, ErrNotRunning.
func (c *Client) Backup(ctx context.Context, sources []string, fn func(Event)) ([]Event, error) {
	b, err := json.Marshal(map[string][]string{"sources": sources})
	if err != nil {
		return nil, err
	}
	var last []Event
	done := false
	err = c.stream(ctx, http.MethodPost, "backup", b, func(e Event) {
		if e.Kind == Done {
			done = true
			return
		}
		if e.final() {
			last = append(last, e)
		}
		if fn != nil {
			fn(e)
		}
	})
	if err == nil && !done {
		err = errors.New("the daemon stopped before the backup ended")
	}
	return last, err
}

// Events calls fn for each event after the one numbered after, and returns when
// ctx ends (nil) or the daemon does.
func (c *Client) Events(ctx context.Context, after uint64, fn func(Event)) error {
	err := c.stream(ctx, http.MethodGet, "events?after="+url.QueryEscape(strconv.FormatUint(after, 10)), nil, fn)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Client) status(ctx context.Context, method, path string, body []byte) (Status, error) {
	return c.answer(ctx, c.http, method, path, body)
}

func (c *Client) answer(ctx context.Context, via *http.Client, method, path string, body []byte) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := do(ctx, via, method, path, body)
	if err != nil {
		return Status{}, err
	}
	defer resp.Body.Close()
	var st Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&st); err != nil {
		return Status{}, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return st, nil
}

func (c *Client) stream(ctx context.Context, method, path string, body []byte, fn func(Event)) error {
	resp, err := do(ctx, c.http, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e Event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("listening to the daemon: %w", err)
		}
		fn(e)
	}
}

// do asks, and turns an answer that is an error into one.
func do(ctx context.Context, via *http.Client, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://cofferd/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := via.Do(req)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var p problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&p); err != nil {
		return nil, fmt.Errorf("the daemon answers %s", resp.Status)
	}
	for _, known := range problems {
		if p.Code == known.code {
			return nil, fmt.Errorf("%w (%s)", known.err, p.Error)
		}
	}
	return nil, errors.New(p.Error)
}
