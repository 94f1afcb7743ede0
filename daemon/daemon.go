// Package daemon watches directories and has them backed up.
//
// What the file system tells is a hint, a periodic scan is the truth: a backup
// of a source is due when its changes have been quiet for a while, at the start,
// after the machine slept, and at an interval; and each looks at every file. So
// a lost event costs time, never a file.
//
//	watch ──▶ change ──▶ quiet ─┐
//	start, suspend, interval ───┼──▶ due ──▶ backup ──▶ saved
//	"coffer backup" ────────────┘     ▲         │
//	                                  └─ later ◀┴ failed
//
// At most one backup of a source runs at a time, and few of different sources.
// Changes seen while one runs belong to the next one. A failure is tried again
// after a delay that doubles. What is pending, and how the last run ended, is in
// a journal that survives kill -9.
//
// The daemon starts without the backup key if it must: it then watches, notes
// what is pending, and begins when the key arrives over the control socket.
// The control socket (a unix socket of the user alone) speaks HTTP and JSON;
// [Client] is its other end.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"coffer/backup"
	"coffer/internal/calendar"
	"coffer/internal/telemetry"
)

var (
	// ErrLocked means that the backup key is not in memory.
	ErrLocked = errors.New("daemon: the backup key is locked")
	// ErrUnknownSource means that no source has the name asked for.
	ErrUnknownSource = errors.New("daemon: no such source")
	// ErrNoPage means that the daemon serves no local page.
	ErrNoPage = errors.New("daemon: the local page is off")
	// ErrRunning means that another daemon works with the same state folder.
	ErrRunning = errors.New("daemon: is running already")
)

// Repo is where backups go; *backup.Repo is one.
type Repo interface {
	// Backup saves the paths as a new snapshot. Not more than one call a source
	// is made at a time. A run that is cut off by ctx loses nothing.
	Backup(ctx context.Context, o backup.BackupOptions) (*backup.Snapshot, backup.Report, error)
}

// Key is the switch of the keyring.
type Key interface {
	// Unlock takes the backup key, and refuses one that is not that of the store.
	Unlock(ctx context.Context, key [32]byte) error
	// Lock forgets it.
	Lock()
	// Locked says whether there is none.
	Locked() bool
}

// Source is one thing to back up.
type Source struct {
	Name          string // unique
	Path          string // absolute; a directory or a file
	Exclude       []string
	ExcludeLarger int64
	ExcludeCaches bool
	OneFileSystem bool
	Tags          []string
	ScanOnly      bool          // is not watched
	Quiet         time.Duration // back up when nothing changed for so long
	MaxWait       time.Duration // but no later than this after the first change
	Scan          time.Duration // full scan this often, give or take a tenth

	Schedule       calendar.Schedule // if there is one, only then; changes and Scan begin nothing
	Overdue        time.Duration     // a problem when nothing was saved for so long; 0: never
	AllowUnmounted bool              // also when it is empty, or no mount point any more, and was not so before
}

// Config is what a daemon needs.
type Config struct {
	Sources  []Source
	StateDir string // required: holds the journal; 0700
	Host     string // name of this machine in snapshots; "" is the host name
	Version  string // shown in the status

	// Private are absolute paths that are left out of every source and never
	// watched: the daemon's own folders, which change with each backup.
	Private []string

	// Open gives the repository; required. It is called for each backup, and
	// returns an error that is ErrLocked while the key is not there.
	Open func(context.Context) (Repo, error)
	Key  Key // required

	Tasks []Task // what else comes round, as checks of the repository

	// Hold says why nothing begins by itself for now, as "on battery"; "": nothing
	// is in the way. It is asked often and returns at once; nil: never.
	Hold func() string

	Notify  func(Notice) // hears of problems that begin, last and end; it returns at once. nil: nobody
	Notices Notices      // when it does

	// TestNotify sends a test to everybody who would be told; nil: nobody would.
	TestNotify func(context.Context) []Delivery

	Reload func() Configured // reads the configuration again; nil: it is fixed

	Control  string                         // path of the control socket; "" with no Listener: none
	Listener net.Listener                   // the control socket, when systemd opened it
	Parallel int                            // backups of different sources at a time; 0 means 2
	Login    func() (url string, err error) // makes a link that opens the local page once; nil: there is no page
	Started  func()                         // called once the control socket is open; nil: nobody waits for it

	clocks func() reading // tests put other clocks here; nil: the machine's

	Log     *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing
}

// Daemon is one; [Daemon.Run] runs it.
type Daemon struct {
	c       Config
	log     *zap.Logger
	slots   chan struct{} // one element for each backup that runs
	events  *bus
	metrics *metrics
	slept   func() time.Duration // in total, since the machine started
	clocks  func() reading
	upkeep  *upkeep
	started time.Time
	woke    atomic.Pointer[time.Time] // when the machine last did; nil: not since the start
	reloads chan []Source
	pulse   *telemetry.Pulse

	// journal is written by the sources and by Pause, under its own lock.
	journal *journal

	mu      sync.Mutex // held for moments only; taken before that of a source
	sources []*source  // in the order of the configuration
	pause   pause

	configured Configured
	reloading  sync.Mutex // one at a time; taken before mu
}

// New checks c. It starts nothing and touches no file.
func New(c Config) (*Daemon, error) {
	if c.StateDir == "" || c.Open == nil || c.Key == nil {
		return nil, errors.New("daemon: StateDir, Open and Key are required")
	}
	if err := errors.Join(checkSources(c.Sources), checkTasks(c.Tasks)); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.clocks == nil {
		c.clocks = readClocks
	}
	if c.Parallel <= 0 {
		c.Parallel = 2
	}
	d := &Daemon{
		c: c, log: c.Log,
		slots:      make(chan struct{}, c.Parallel),
		events:     newBus(),
		slept:      timeAsleep,
		clocks:     c.clocks,
		started:    time.Now(),
		configured: Configured{Loaded: time.Now()},
		reloads:    make(chan []Source, 1),
		pulse:      telemetry.NewPulse(4 * sleepCheck),
		journal:    newJournal(filepath.Join(c.StateDir, "journal.json"), c.Log),
	}
	d.upkeep = newUpkeep(d)
	d.journal.stamp = func() (reading, map[string]taskRecord) {
		now := d.clocks()
		return now, d.upkeep.stamp(now)
	}
	d.metrics = newMetrics(d, c.Metrics)
	return d, nil
}

func checkSources(sources []Source) error {
	names := make(map[string]bool)
	for _, s := range sources {
		switch {
		case s.Name == "" || names[s.Name]:
			return fmt.Errorf("daemon: source name %q is empty or there twice", s.Name)
		case !filepath.IsAbs(s.Path):
			return fmt.Errorf("daemon: source %s: path %q is not absolute", s.Name, s.Path)
		case s.Quiet <= 0 || s.MaxWait < s.Quiet || s.Scan <= 0:
			return fmt.Errorf("daemon: source %s: needs 0 < Quiet <= MaxWait and Scan > 0", s.Name)
		}
		names[s.Name] = true
	}
	return nil
}

// Run watches and backs up until ctx ends, then returns nil once the running
// backups have stopped. ErrRunning when another daemon has the state folder.
func (d *Daemon) Run(ctx context.Context) error {
	unlock, err := lockFolder(d.c.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	d.journal.load()
	d.mu.Lock()
	d.pause = d.journal.pause()
	d.mu.Unlock()
	d.upkeep.load(d.c.Tasks)
	fresh := d.replace(d.c.Sources, nil) // before anybody can ask for one
	g, ctx := errgroup.WithContext(ctx)
	control, err := d.listen()
	if err != nil {
		return err
	}
	if control != nil {
		g.Go(func() error { return d.serveControl(ctx, control) })
	}
	if d.c.Started != nil {
		d.c.Started()
	}
	g.Go(func() error { return d.watchSleep(ctx) })
	g.Go(func() error { return d.supervise(ctx, fresh) })
	g.Go(func() error { return d.upkeep.run(ctx) })
	g.Go(func() error { return d.watchProblems(ctx) })
	return g.Wait()
}

// Alive fails when the daemon is stuck and a new process is the only way out.
func (d *Daemon) Alive() error { return d.pulse.Check() }

// Ready says why the daemon cannot back up for now; nil when it can.
func (d *Daemon) Ready() error {
	if d.c.Key.Locked() {
		return ErrLocked
	}
	return nil
}

// Reload replaces the sources, the tasks and when problems are told. Those that
// are the same go on undisturbed; a backup of a source that changed or is gone
// stops, a task does not.
func (d *Daemon) Reload(sources []Source, tasks []Task, notices Notices) error {
	if err := errors.Join(checkSources(sources), checkTasks(tasks)); err != nil {
		return err
	}
	d.upkeep.reload(tasks)
	d.mu.Lock()
	d.c.Notices = notices
	d.mu.Unlock()
	select {
	case <-d.reloads: // one that was not begun is out of date
	default:
	}
	d.reloads <- slices.Clone(sources)
	return nil
}

// Unlock hands the backup key to the keyring and begins what is due.
func (d *Daemon) Unlock(ctx context.Context, key [32]byte) error {
	if err := d.c.Key.Unlock(ctx, key); err != nil {
		return fmt.Errorf("unlocking: %w", err)
	}
	d.log.Info("unlocked")
	d.events.publish(Event{Kind: Unlocked})
	d.wakeAll()
	return nil
}

// Lock has the keyring forget the key and stops the running backups.
func (d *Daemon) Lock() {
	d.c.Key.Lock()
	d.log.Info("locked")
	d.events.publish(Event{Kind: LockedNow})
	d.stopAll(ErrLocked)
}

// Subscribe gives the events kept that came after the one numbered after, and
// then each new one until cancel is called. A subscriber that is slow misses
// some, and is told by an event of kind [Lost].
func (d *Daemon) Subscribe(after uint64) (events <-chan Event, cancel func()) {
	return d.events.subscribe(after)
}

// find returns the sources named, all for none.
func (d *Daemon) find(names []string) ([]*source, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(names) == 0 {
		return slices.Clone(d.sources), nil
	}
	var found []*source
	for _, name := range names {
		i := slices.IndexFunc(d.sources, func(s *source) bool { return s.c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: %q", ErrUnknownSource, name)
		}
		if !slices.Contains(found, d.sources[i]) {
			found = append(found, d.sources[i])
		}
	}
	return found, nil
}

func (d *Daemon) wakeAll() {
	sources, _ := d.find(nil)
	for _, s := range sources {
		s.wakeUp()
	}
	d.upkeep.wakeUp()
}

func (d *Daemon) stopAll(why error) {
	d.upkeep.stop(why, true)
	sources, _ := d.find(nil)
	for _, s := range sources {
		s.stop(why)
	}
}
