package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// copyTree copies the files, directories and symlinks below src to dst.
func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, data, 0o644)
		}
		return nil
	})
}

// writeRandom writes size bytes that no compression makes smaller.
func writeRandom(name string, size int) error {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return os.WriteFile(name, data, 0o600)
}

// compareTrees compares want with got in both directions: names, kinds, modes,
// times, link targets and every byte.
func compareTrees(want, got string) (files int, size int64, err error) {
	seen := make(map[string]bool)
	err = filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		seen[rel] = true
		n, err := compareEntry(path, filepath.Join(got, rel))
		if err != nil {
			return fmt.Errorf("comparing %s: %w", rel, err)
		}
		if d.Type().IsRegular() {
			files, size = files+1, size+n
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	err = filepath.WalkDir(got, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(got, path); !seen[rel] {
			return fmt.Errorf("restored but never saved: %s", rel)
		}
		return nil
	})
	return files, size, err
}

// compareEntry compares one file, directory or symlink and returns its size.
func compareEntry(want, got string) (int64, error) {
	w, err := os.Lstat(want)
	if err != nil {
		return 0, err
	}
	g, err := os.Lstat(got)
	if err != nil {
		return 0, err
	}
	if w.Mode() != g.Mode() {
		return 0, fmt.Errorf("mode %v became %v", w.Mode(), g.Mode())
	}
	if !w.ModTime().Equal(g.ModTime()) {
		return 0, fmt.Errorf("time %v became %v", w.ModTime(), g.ModTime())
	}
	switch {
	case w.Mode()&fs.ModeSymlink != 0:
		a, err1 := os.Readlink(want)
		b, err2 := os.Readlink(got)
		if a != b {
			return 0, fmt.Errorf("link to %q became %q", a, b)
		}
		return 0, errors.Join(err1, err2)
	case w.Mode().IsRegular():
		a, err1 := os.ReadFile(want)
		b, err2 := os.ReadFile(got)
		if !bytes.Equal(a, b) {
			return 0, errors.New("the bytes differ")
		}
		return w.Size(), errors.Join(err1, err2)
	}
	return 0, nil
}

// findPlain looks for any of the needles in the bytes and in the names of all
// files below dir; it returns what it found first, and how much it looked at.
func findPlain(dir string, needles []string) (found string, files int, size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || found != "" {
			return err
		}
		for _, n := range needles {
			if bytes.Contains([]byte(d.Name()), []byte(n)) {
				found = fmt.Sprintf("%q in the name %s", n, path)
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files, size = files+1, size+int64(len(data))
		for _, n := range needles {
			if bytes.Contains(data, []byte(n)) {
				found = fmt.Sprintf("%q in %s", n, path)
			}
		}
		return nil
	})
	return found, files, size, err
}
