// Package backup keeps snapshots of directory trees in a deduplicating
// repository on storage that is not trusted.
//
// Files are cut into chunks whose borders and names depend on secrets, chunks
// are gathered into compressed segments, segments into packs of about 24 MiB, and
// every object is sealed before it leaves the machine. A snapshot is a tree of
// directories, each one chunk, so that what did not change costs nothing. There
// are no locks: any number of machines write and prune at the same time.
//
//	repo/config          parameters and secrets of the repository, written once
//	repo/packs/xx/NAME   segments of chunks, then a footer that describes them
//	repo/index/NAME      which chunks lie in which packs; can be rebuilt from packs
//	repo/snapshots/NAME  one run: time, host, source, the id of the root directory
//	repo/heads/WRITER-N  what a writer has published, chained: shows a rollback
//	repo/deletions/NAME  packs that a prune will remove once the grace time is over
//
// Write order is packs, index, snapshot, head; the snapshot object is the
// commitment. FORMAT.md specifies the bytes.
package backup

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/backup/pack"
	"coffer/backup/report"
	"coffer/backup/restore"
	"coffer/backup/store"
	"coffer/backup/tree"
	"coffer/seal"
)

// Bucket is the storage beneath a repository: an upstream.Bucket, or less.
type Bucket = store.Bucket

// What runs tell, and how they are told to treat files that exist.
type (
	Statistics = report.Statistics
	Progress   = report.Progress
	FileError  = report.FileError
	Report     = report.Report
	Overwrite  = restore.Overwrite
)

// The modes of [RestoreOptions.Overwrite].
const (
	OverwriteChanged = restore.OverwriteChanged
	OverwriteAlways  = restore.OverwriteAlways
	OverwriteOlder   = restore.OverwriteOlder
	OverwriteNever   = restore.OverwriteNever
)

// Config is what a repository needs to be opened. The zero value of every field
// that is not marked as required works.
type Config struct {
	Bucket   Bucket                // required
	Keys     *seal.Keys            // required: the store's keys, from the backup key
	CacheDir string                // private folder; holds copies and the journal, may be lost; empty: nothing is kept
	Workers  int                   // chunk, compress and seal; 0: one a core
	Uploads  int                   // packs in flight; 0: 3
	Log      *zap.Logger           // nil logs nothing
	Metrics  prometheus.Registerer // nil registers nothing

	spill int // chunks that the index, or a restore, holds in memory, for tests
}

var (
	// ErrNotExist means that there is no such repository, snapshot or path.
	ErrNotExist = store.ErrNotExist
	// ErrNoSnapshot is the ErrNotExist of a snapshot.
	ErrNoSnapshot error = noSnapshot{}
	// ErrExists means that [Init] found a repository.
	ErrExists = store.ErrExists
	// ErrCorrupt means that an object upstream is not what was written; the
	// error that wraps it names the object. Trying again does not help.
	ErrCorrupt = store.ErrCorrupt
	// ErrAmbiguous means that an abbreviated snapshot id fits several.
	ErrAmbiguous = errors.New("the id fits several snapshots")
	// ErrVersion means that the repository was written by a newer coffer.
	ErrVersion = store.ErrVersion
)

// noSnapshot is ErrNoSnapshot.
type noSnapshot struct{}

func (noSnapshot) Error() string { return "there is no such snapshot" }

// Is makes it an ErrNotExist.
func (noSnapshot) Is(target error) bool { return target == ErrNotExist }

// Snapshot is the state of one source at one time.
type Snapshot struct {
	ID      string     `json:"id"`               // 32 hex digits; the first 8 usually suffice for Find
	Time    time.Time  `json:"time"`             // when the run began
	End     time.Time  `json:"end"`              // when its last pack was stored
	Host    string     `json:"host"`             // where it was taken
	User    string     `json:"user"`             // by whom
	Source  string     `json:"source"`           // name of the source
	Paths   []string   `json:"paths"`            // absolute; more than one: the tree has one branch a path
	Tags    []string   `json:"tags,omitempty"`   // sorted
	Parent  string     `json:"parent"`           // the snapshot it was compared with, if any
	Program string     `json:"program"`          // what wrote it
	Stats   Statistics `json:"stats"`            //
	Partial bool       `json:"partial"`          // some files could not be read or changed under the reader
	Origin  string     `json:"origin,omitempty"` // of one that was brought from another repository: which it was there

	root   tree.Entry        // the directory at the top
	users  map[uint32]string // names of the owners seen
	groups map[uint32]string //
	writer writerRef         // who published it, and when in its chain

	first      pack.Name // the name it had before its tags were changed
	generation uint64    // how many times they were
	replaced   []string  // ids of older generations that are still there
}

// BackupOptions says what to back up. Source and Paths are required.
type BackupOptions struct {
	Source string   // name under which snapshots follow each other
	Paths  []string // files and directories; relative ones are made absolute
	Host   string   // empty: this host's name
	User   string   // empty: the user this process runs as
	Tags   []string
	Time   time.Time // zero: now

	Exclude       []string // gitignore patterns, relative to each path
	ExcludeFiles  []string // names of files in directories that hold such patterns; nil: .cofferignore
	ExcludeCaches bool     // leave out what CACHEDIR.TAG marks, the tag aside
	ExcludeLarger int64    // leave out files of more bytes than this; 0: none
	OneFileSystem bool     // do not cross into other file systems
	NoCompress    bool     // for what an attacker can write beside secrets
	SkipUnchanged bool     // make no snapshot if the tree is the parent's; the parent is returned
	Rescan        bool     // read every file, even if it looks unchanged
	DryRun        bool     // read and count; store nothing

	Progress func(Progress) // called a few times a second, never at the same time
}

// RestoreOptions says what to restore and where. Snapshot and To are required.
type RestoreOptions struct {
	Snapshot  *Snapshot
	To        string   // directory, made if absent; nothing outside it is ever written
	Paths     []string // files and directories within the snapshot; none: everything
	Exclude   []string // gitignore patterns of what to leave out
	Strip     bool     // put the contents of each of Paths directly into To, not below their full path
	Overwrite Overwrite
	Delete    bool // remove what is there and not in the snapshot, within the directories restored
	Verify    bool // read everything again afterwards and compare
	DryRun    bool
	Progress  func(Progress)
}

// CheckOptions says how thorough a check is. The zero value checks structure:
// every object that is listed opens, every chunk that a snapshot needs is there.
type CheckOptions struct {
	ReadData  bool // fetch and verify every pack
	Part, Of  int  // with ReadData: only part Part (from 1) of Of; 0: all
	Snapshots []*Snapshot
	Progress  func(Progress)
}

// CheckReport lists what a check found. A repository without Problems is sound
// as far as it was looked at.
type CheckReport struct {
	Snapshots int       `json:"snapshots"`
	Packs     int       `json:"packs"`
	Chunks    int       `json:"chunks"`
	Bytes     int64     `json:"bytes"`     // fetched
	Unused    int       `json:"unused"`    // packs that no index knows: left by runs that were killed
	Problems  []Problem `json:"problems"`  //
	Rollbacks []string  `json:"rollbacks"` // writers whose published history has shrunk
}

// Problem is one damaged or missing object and what it touches.
type Problem struct {
	Object  string   `json:"object"`  // upstream name
	Err     string   `json:"error"`   //
	Touches []string `json:"touches"` // "SNAPSHOT:/path" of each file and directory affected
}

// Entry describes a file, directory or other object of a snapshot. Names are
// byte strings and may hold anything but "/" and NUL.
type Entry struct {
	Name    string            `json:"name"`
	Type    string            `json:"type"` // "file", "dir", "symlink", "fifo", "chardev", "blockdev"
	Mode    uint32            `json:"mode"` // permission bits with setuid, setgid and sticky: 0 to 07777
	UID     uint32            `json:"uid"`
	GID     uint32            `json:"gid"`
	Size    int64             `json:"size"`
	ModTime time.Time         `json:"mtime"`
	Target  string            `json:"target,omitempty"` // of a symlink
	Inode   uint64            `json:"inode"`
	Links   bool              `json:"links,omitempty"`  // has other hard links
	Device  uint64            `json:"device,omitempty"` // of one with Links: those with equal Device and Inode are one
	Major   uint32            `json:"major,omitempty"`  // of a device
	Minor   uint32            `json:"minor,omitempty"`  // of a device
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
	Changed bool              `json:"changed,omitempty"` // was written to while it was read
	Missing bool              `json:"missing,omitempty"` // could not be read: metadata only
}

// Dir reports whether e is a directory.
func (e Entry) Dir() bool { return e.Type == "dir" }
