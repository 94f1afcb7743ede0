package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/internal/durable"
)

// maxJournal bounds what is read of a journal: a thousand sources take less.
const maxJournal = 1 << 20

// record is what the journal keeps of a source.
type record struct {
	PendingSince time.Time `json:"pending_since,omitzero"` // oldest change not saved; zero: none known
	LastAttempt  time.Time `json:"last_attempt,omitzero"`
	LastSaved    time.Time `json:"last_saved,omitzero"`
	Snapshot     string    `json:"snapshot,omitempty"`   // of the last success
	Unreadable   int       `json:"unreadable,omitempty"` // files it could not read
	Failures     int       `json:"failures,omitempty"`   // in a row
	LastError    string    `json:"last_error,omitempty"`
	RetryAt      time.Time `json:"retry_at,omitzero"` // not before, after failures

	Since   time.Time `json:"since,omitzero"`    // when the source was first seen
	Hint    string    `json:"hint,omitempty"`    // of LastError
	Lasting bool      `json:"lasting,omitempty"` // LastError does not pass by itself
	Mounted bool      `json:"mounted,omitempty"` // at the last success it was a mount point
	Filled  bool      `json:"filled,omitempty"`  // and not empty
}

// contents is the file: small, and replaced whole at each change of state (not
// at each event), so that after kill -9 it is the old or the new one.
type contents struct {
	Version int               `json:"version"` // 1
	Pause   pause             `json:"pause,omitzero"`
	Sources map[string]record `json:"sources"`

	Clock reading               `json:"clock,omitzero"` // when the file was written
	Tasks map[string]taskRecord `json:"tasks,omitempty"`

	Problems map[string]known `json:"problems,omitempty"`
}

// journal is the state that survives. What it loses costs a scan, no file.
type journal struct {
	file string
	log  *zap.Logger

	stamp func() (reading, map[string]taskRecord) // asked at each write; set before load

	mu sync.Mutex // held while the file is written: the writes are in order
	c  contents
}

func newJournal(file string, log *zap.Logger) *journal {
	return &journal{file: file, log: log, c: contents{Version: 1, Sources: make(map[string]record), Problems: make(map[string]known)}}
}

// load reads the file. One that cannot be read is as good as none: every source
// is scanned at the start.
func (j *journal) load() {
	j.mu.Lock()
	defer j.mu.Unlock()
	c, err := readJournal(j.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		j.log.Warn("journal begins anew", zap.Error(err))
		return
	}
	j.c.Pause, j.c.Clock, j.c.Tasks = c.Pause, c.Clock, c.Tasks
	maps.Copy(j.c.Sources, c.Sources)
	maps.Copy(j.c.Problems, c.Problems)
}

func readJournal(file string) (contents, error) {
	var c contents
	info, err := os.Stat(file)
	if err != nil {
		return c, err
	}
	if info.Size() > maxJournal {
		return c, errors.New("journal is too large")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, err
	}
	if c.Version != 1 {
		return c, errors.New("journal has an unknown version")
	}
	return c, nil
}

func (j *journal) get(source string) record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.c.Sources[source]
}

func (j *journal) put(source string, r record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.c.Sources[source] = r
	j.write()
}

func (j *journal) pause() pause {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.c.Pause
}

func (j *journal) setPause(p pause) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.c.Pause = p
	j.write()
}

// tasks gives the tasks as the file had them, and when it was written.
func (j *journal) tasks() (reading, map[string]taskRecord) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.c.Clock, j.c.Tasks
}

// save writes the file though nothing that it keeps of sources has changed.
func (j *journal) save() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write()
}

// write does not fail its caller: a full disk must not stop the backups that
// may be the way out. The caller holds mu.
func (j *journal) write() {
	j.c.Clock, j.c.Tasks = j.stamp()
	data, err := json.MarshalIndent(j.c, "", "\t")
	if err == nil {
		err = durable.WriteFile(j.file, append(data, '\n'), 0o600)
	}
	if err != nil {
		j.log.Warn("journal is not up to date", zap.Error(err))
	}
}
