package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// makeSource fills dir with one kind of work:
//
//	large  90 files of incompressible bytes, 2 GiB in all
//	small  100,000 files of 1 to 16 KiB, half of them text
//	tree   the sources and tests of the Go distribution
//	big    one file of 4 GiB
func makeSource(dir, work string, scale float64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", work))))
	switch work {
	case "large":
		for i := range int(90 * scale) {
			if err := writeRandom(filepath.Join(dir, fmt.Sprintf("%03d.bin", i)), random, 2<<30/90); err != nil {
				return err
			}
		}
		return nil
	case "small":
		return makeSmall(dir, random, int(100_000*scale))
	case "tree":
		goroot, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("asking go where its sources are: %w", err)
		}
		return copySources(dir, strings.TrimSpace(string(goroot)), "src", "test")
	case "big":
		return writeRandom(filepath.Join(dir, "big.bin"), random, int64(4<<30*scale))
	}
	return fmt.Errorf("unknown work %q", work)
}

func writeRandom(name string, random io.Reader, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, random, size)
	return errors.Join(err, f.Close())
}

func makeSmall(dir string, random *rand.ChaCha8, files int) error {
	word := make([]byte, 8)
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i/250))
		if i%250 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		random.Read(word)
		data := make([]byte, 1<<10+binary.LittleEndian.Uint64(word)%(15<<10))
		random.Read(data)
		if i%2 == 0 { // text: as compressible as hexadecimal digits are
			data = fmt.Appendf(nil, "%x", data[:len(data)/2])
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%05d", i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copySources(dir, goroot string, folders ...string) error {
	for _, name := range folders {
		err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(goroot, name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// insertByte puts one byte into the middle of a file, as an editor would: the
// second half moves by one.
func insertByte(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, f, info.Size()/2)
	if err == nil {
		_, err = out.Write([]byte{'!'})
	}
	if err == nil {
		_, err = io.Copy(out, f)
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// half is every second file of a source, moved aside.
type half struct {
	from, to string
	moved    []string
}

// takeHalf moves every second file below dir to a folder beside it.
func takeHalf(dir, aside string) (*half, error) {
	h := &half{from: dir, to: aside}
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n++; n%2 == 0 {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(aside, rel)), 0o755); err != nil {
			return err
		}
		h.moved = append(h.moved, rel)
		return os.Rename(path, filepath.Join(aside, rel))
	})
	return h, err
}

// putBack makes the source whole again, for the next repetition.
func (h *half) putBack() {
	for _, rel := range h.moved {
		if err := os.Rename(filepath.Join(h.to, rel), filepath.Join(h.from, rel)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	os.RemoveAll(h.to)
}

// compare compares every file below want with the one below got.
func compare(want, got string) error {
	return filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		return sameFile(path, filepath.Join(got, rel))
	})
}

func sameFile(want, got string) error {
	a, err := os.Open(want)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(got)
	if err != nil {
		return err
	}
	defer b.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return fmt.Errorf("%s differs from %s", got, want)
		}
		if errA != nil || errB != nil {
			if errA == errB || n == m && errors.Is(errA, io.ErrUnexpectedEOF) == errors.Is(errB, io.ErrUnexpectedEOF) {
				return nil
			}
			return errors.Join(errA, errB)
		}
	}
}
