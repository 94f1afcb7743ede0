package raftstore

import (
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS is the disk below both databases. Once armed, a write or sync that
// fails ends the node, and whoever wrote never hears of it: pebble would panic,
// in places so that the process dies of it, or go on trying. The writer sleeps
// for ever with its locks held, so nothing behind it is acknowledged either.
type guardFS struct {
	vfs.FS
	fail    func(error)
	armed   atomic.Bool // before, errors are returned: the node is being opened
	tripped atomic.Bool // the databases must not be closed: their writers sleep
}

func (g *guardFS) check(what, name string, err error) error {
	if err == nil || !g.armed.Load() {
		return err
	}
	g.tripped.Store(true)
	g.fail(fmt.Errorf("%s %s: %w", what, name, err))
	select {}
}

func (g *guardFS) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err := g.check("creating", name, err); err != nil {
		return nil, err
	}
	return &guardFile{f, g, name}, nil
}

// Create makes a file.
func (g *guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	return g.file(name, f, err)
}

// OpenReadWrite opens a file for writing in its midst.
func (g *guardFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, c, o...)
	return g.file(name, f, err)
}

// ReuseForWrite makes a file of an old one.
func (g *guardFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(old, name, c)
	return g.file(name, f, err)
}

// OpenDir opens a folder for syncing.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardFile{f, g, name}, nil
}

// Unwrap returns the disk itself.
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

type guardFile struct {
	vfs.File
	g    *guardFS
	name string
}

func (f *guardFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.g.check("writing", f.name, err)
}

func (f *guardFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.g.check("writing", f.name, err)
}

func (f *guardFile) Sync() error { return f.g.check("syncing", f.name, f.File.Sync()) }

func (f *guardFile) SyncData() error { return f.g.check("syncing", f.name, f.File.SyncData()) }

func (f *guardFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	return full, f.g.check("syncing", f.name, err)
}
