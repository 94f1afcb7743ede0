// Package notify tells people and machines elsewhere how the backups are: by
// webhook, mail and desktop notification when a problem begins, lasts or is over,
// and by pings to a dead man's switch, which raises the alarm when they stay away.
//
// What is sent names nothing of the machine's, unless Details is set. Addresses
// and passwords are read from files at each use; they are in no log and no error.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
)

// Config says who is told. The zero value tells nobody.
type Config struct {
	Host    string // name of this machine
	Details bool   // send names, errors and hints

	Webhook Webhook
	Mail    Mail
	Desktop bool
	Pings   map[string]string // by source: file that holds the URL to ping

	Log *zap.Logger // nil logs nothing
}

const (
	queued  = 32               // messages for one channel that wait
	timeout = 30 * time.Second // for one attempt
)

// retries are the pauses before a message is tried again, each give or take a
// quarter. After the last one it is given up: a newer one will tell the same.
var retries = []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour}

// Message is what is sent; as JSON it is the body of the webhook.
type Message struct {
	Event    string    `json:"event"` // "problem", "solved", "reminder" or "test"
	Time     time.Time `json:"time"`
	Text     string    `json:"text"` // all of it for people; chats show this field
	Host     string    `json:"host,omitempty"`
	Problems []Item    `json:"problems"`
}

// Item is one problem in a message.
type Item struct {
	ID     string    `json:"id,omitempty"`
	Kind   string    `json:"kind"`
	Source string    `json:"source,omitempty"`
	Task   string    `json:"task,omitempty"`
	Since  time.Time `json:"since"`
	Text   string    `json:"text"`
	Hint   string    `json:"hint,omitempty"`
}

// KindVault is the kind of the problem that a vault node does not run: the one that
// is not about the backups of a machine.
const KindVault = "vault-failed"

// message says what may be said of a notice.
func (c *Config) message(n daemon.Notice) Message {
	m := Message{Event: string(n.Change), Time: time.Now().UTC(), Problems: []Item{}}
	var lines []string
	for _, p := range n.Problems {
		i := Item{Kind: p.Kind, Task: p.Task, Since: p.Since.UTC(), Text: p.General}
		if c.Details {
			i.ID, i.Source, i.Text, i.Hint = p.ID, p.Source, p.Text, p.Hint
		}
		line := "- " + i.Text + " (since " + p.Since.Local().Format("2006-01-02 15:04") + ")"
		if i.Hint != "" && n.Change != daemon.Solved {
			line += "\n  what helps: " + i.Hint
		}
		lines = append(lines, line)
		m.Problems = append(m.Problems, i)
	}
	if n.Change != daemon.Solved && len(n.Problems) > 0 && m.about() == "the backups" {
		lines = append(lines, `"coffer status" on that machine says more.`)
	}
	first := m.subject()
	if c.Details {
		m.Host = c.Host
		first += " on " + c.Host
	}
	lines = slices.Insert(lines, 0, first)
	m.Text = strings.Join(lines, "\n")
	return m
}

// about is what the problems are with.
func (m *Message) about() string {
	if slices.ContainsFunc(m.Problems, func(i Item) bool { return i.Kind == KindVault }) {
		return "the vault"
	}
	return "the backups"
}

// subject is the first line.
func (m *Message) subject() string {
	what := "a problem with " + m.about()
	if n := len(m.Problems); n > 1 {
		what = fmt.Sprintf("%d problems with %s", n, m.about())
	}
	switch m.Event {
	case string(daemon.Began):
		return "coffer: " + what
	case string(daemon.Solved):
		return "coffer: solved: " + what
	case string(daemon.Reminder):
		return "coffer: still " + what
	}
	return "coffer: a test: notifications arrive"
}

// channel is one way to tell.
type channel struct {
	name  string
	send  func(context.Context, Message) error
	queue chan Message
}

// Notifier tells.
type Notifier struct {
	log     *zap.Logger
	pinger  *pinger
	changed chan struct{} // holds one: the configuration was replaced

	mu       sync.Mutex
	c        Config
	channels []*channel
}

// New makes one. It sends nothing before Run.
func New(c Config) *Notifier {
	n := &Notifier{log: c.Log, changed: make(chan struct{}, 1)}
	if n.log == nil {
		n.log = zap.NewNop()
	}
	n.pinger = newPinger(n.log)
	n.set(c)
	return n
}

// set replaces the configuration. What waits for channels that stay, waits on.
func (n *Notifier) set(c Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := make(map[string]chan Message)
	for _, ch := range n.channels {
		old[ch.name] = ch.queue
	}
	n.c, n.channels = c, nil
	add := func(name string, send func(context.Context, Message) error) {
		queue := old[name]
		if queue == nil {
			queue = make(chan Message, queued)
		}
		n.channels = append(n.channels, &channel{name, send, queue})
	}
	if c.Webhook.URLFile != "" {
		add("webhook", c.Webhook.send)
	}
	if c.Mail.Server != "" {
		add("mail", c.Mail.send)
	}
	if c.Desktop {
		add("desktop", sendDesktop)
	}
	n.pinger.set(c.Pings)
}

// Reload replaces the configuration while Run runs.
func (n *Notifier) Reload(c Config) {
	n.set(c)
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Tell queues a notice for every channel. It never waits: when a channel has not
// got rid of its last messages for long, the oldest is dropped.
func (n *Notifier) Tell(notice daemon.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.c.message(notice)
	for _, ch := range n.channels {
		for {
			select {
			case ch.queue <- m:
			default:
				select {
				case <-ch.queue:
				default:
				}
				continue
			}
			break
		}
	}
}

// Run sends what is told, and pings as events of d tell, until ctx ends.
func (n *Notifier) Run(ctx context.Context, d interface {
	Subscribe(after uint64) (<-chan daemon.Event, func())
}) error {
	events, cancel := d.Subscribe(0)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { n.pinger.run(ctx, events) })
	for ctx.Err() == nil {
		n.mu.Lock()
		channels := n.channels
		n.mu.Unlock()
		life, end := context.WithCancel(ctx)
		var some sync.WaitGroup
		for _, ch := range channels {
			some.Go(func() { n.serve(ctx, life, ch) })
		}
		select {
		case <-ctx.Done():
		case <-n.changed:
		}
		end()
		some.Wait()
	}
	return nil
}

// serve sends what waits for one channel until life ends. An attempt that has
// begun then is waited for, unless ctx ends too: it may have got through.
func (n *Notifier) serve(ctx, life context.Context, ch *channel) {
	for {
		select {
		case <-life.Done():
			return
		case m := <-ch.queue:
			err := persist(life, func() error { return attempt(ctx, ch, m) })
			switch {
			case life.Err() != nil && err != nil:
				select { // for the next configuration; a full queue has newer ones
				case ch.queue <- m:
				default:
				}
			case err != nil:
				n.log.Warn("notification given up", zap.String("channel", ch.name), zap.Error(err))
			}
		}
	}
}

// attempt sends once.
func attempt(ctx context.Context, ch *channel, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return ch.send(ctx, m)
}

// persist tries until it succeeds, ctx ends or retrying has no sense any more.
func persist(ctx context.Context, try func() error) error {
	err := try()
	for _, pause := range retries {
		var final *refused
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause*3/4 + rand.N(pause/2)):
		}
		err = try()
	}
	return err
}

// refused is an answer that will be the same next time.
type refused struct{ error }

// Test sends a message to every channel, once, and says how that went.
func (n *Notifier) Test(ctx context.Context) []daemon.Delivery {
	return n.deliver(daemon.Notice{Change: "test"}, func(ch *channel, m Message) error { return attempt(ctx, ch, m) })
}

// Send sends a notice to every channel, without Run, and tries until ctx ends.
func (n *Notifier) Send(ctx context.Context, notice daemon.Notice) []daemon.Delivery {
	return n.deliver(notice, func(ch *channel, m Message) error {
		return persist(ctx, func() error { return attempt(ctx, ch, m) })
	})
}

func (n *Notifier) deliver(notice daemon.Notice, send func(*channel, Message) error) []daemon.Delivery {
	n.mu.Lock()
	m := n.c.message(notice)
	channels := n.channels
	n.mu.Unlock()
	all := make([]daemon.Delivery, len(channels))
	var some sync.WaitGroup
	for i, ch := range channels {
		some.Go(func() {
			all[i].Channel = ch.name
			if err := send(ch, m); err != nil {
				all[i].Error = err.Error()
			}
		})
	}
	some.Wait()
	return all
}

// encode writes a message as JSON.
func (m Message) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(m)
	return b.Bytes(), err
}
