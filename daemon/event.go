package daemon

import (
	"sync"
	"time"

	"coffer/backup"
)

// Kind says what an [Event] tells.
type Kind string

// The kinds of events. Of a request to back up, the last event of each source is
// Saved, Failed or Stopped.
const (
	Changed     Kind = "changed"      // something was written, and nothing before was waiting
	Started     Kind = "started"      // a backup began
	Progress    Kind = "progress"     // how far it is; not kept for those who come later
	Saved       Kind = "saved"        // a backup is durable upstream
	Failed      Kind = "failed"       // it will be tried again at Until
	Stopped     Kind = "stopped"      // by a pause, by Lock, or because the daemon ends
	Paused      Kind = "paused"       // until Until, zero: until resumed
	Resumed     Kind = "resumed"      //
	Unlocked    Kind = "unlocked"     // the key is in memory
	LockedNow   Kind = "locked"       // the key is no longer in memory
	Slept       Kind = "slept"        // the machine was suspended for Took
	Overflow    Kind = "overflow"     // the system lost events: the source is scanned
	WatchLimit  Kind = "watch-limit"  // not all of the source can be watched; Error says what to do
	TaskDone    Kind = "task-done"    // a task went well: Result
	TaskFailed  Kind = "task-failed"  // Error, and in Hint what to do
	TaskStopped Kind = "task-stopped" // as a backup stops; it is still due
	Reloaded    Kind = "reloaded"     // the configuration was read again, or has a fault: Error
	ProblemNews Kind = "problem"      // Result: "problem" (it began), "reminder" or "solved"; Error says which
	Done        Kind = "done"         // ends the answer to a request to back up
	Lost        Kind = "lost"         // the subscriber was too slow for Missed events
)

// Event is one thing that happened.
type Event struct {
	Seq      uint64           `json:"seq"` // grows by one; 0 for Progress, Done and Lost
	Time     time.Time        `json:"time"`
	Kind     Kind             `json:"event"`
	Source   string           `json:"source,omitempty"`
	Task     string           `json:"task,omitempty"`
	Result   string           `json:"result,omitempty"`
	Hint     string           `json:"hint,omitempty"`
	Took     time.Duration    `json:"took,omitempty"` // ns
	Until    time.Time        `json:"until,omitzero"`
	Error    string           `json:"error,omitempty"`
	Snapshot string           `json:"snapshot,omitempty"`
	Progress *backup.Progress `json:"progress,omitempty"`
	Report   *backup.Report   `json:"report,omitempty"`
	Missed   int              `json:"missed,omitempty"`
}

const (
	keptEvents   = 256 // for those who come later
	waitingLimit = 512 // for a subscriber that is slow; more than keptEvents
)

// bus hands events to subscribers. It never waits for one.
type bus struct {
	mu   sync.Mutex
	seq  uint64
	kept []Event // the last ones, without Progress
	subs map[*subscriber]struct{}
}

type subscriber struct {
	events chan Event
	missed int
}

func newBus() *bus { return &bus{subs: make(map[*subscriber]struct{})} }

func (b *bus) publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Time = time.Now()
	if e.Kind != Progress {
		b.seq++
		e.Seq = b.seq
		if len(b.kept) == keptEvents {
			b.kept = append(b.kept[:0], b.kept[1:]...)
		}
		b.kept = append(b.kept, e)
	}
	for s := range b.subs {
		s.send(e)
	}
}

// send leaves the last place of the channel to the news that some were missed.
func (s *subscriber) send(e Event) {
	if s.missed > 0 && len(s.events) < cap(s.events)-1 {
		s.events <- Event{Time: e.Time, Kind: Lost, Missed: s.missed}
		s.missed = 0
	}
	if len(s.events) >= cap(s.events)-1 {
		s.missed++
		return
	}
	s.events <- e
}

func (b *bus) subscribe(after uint64) (<-chan Event, func()) {
	s := &subscriber{events: make(chan Event, waitingLimit)}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.kept {
		if e.Seq > after {
			s.send(e)
		}
	}
	b.subs[s] = struct{}{}
	return s.events, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, s)
	}
}

// last is the number of the newest event.
func (b *bus) last() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}
