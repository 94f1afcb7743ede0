package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"coffer/bench"
)

// makeTree makes the source: directories two deep, with small files.
func (b *benchmark) makeTree() error {
	began := time.Now()
	n := max(int(fullDirs*b.scale), 10)
	source := filepath.Join(b.dir, "source")
	b.dirs = append(b.dirs, source)
	for i := 0; len(b.dirs) < n; i++ {
		top := filepath.Join(source, fmt.Sprintf("top%04d", i))
		b.dirs = append(b.dirs, top)
		for j := 0; j < 99 && len(b.dirs) < n; j++ {
			b.dirs = append(b.dirs, filepath.Join(top, fmt.Sprintf("folder%02d", j)))
		}
	}
	files := 0
	for _, dir := range b.dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for k := range filesPerDir {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%02d", k)), fmt.Appendf(nil, "%s %d", dir, k), 0o600); err != nil {
				return err
			}
			files++
		}
	}
	fmt.Printf("tree       %d directories, %d files, made in %v\n", len(b.dirs), files, time.Since(began).Round(time.Millisecond))
	return nil
}

// setUp makes the machine ready.
func (b *benchmark) setUp(ctx context.Context) error {
	b.env = []string{"HOME=" + b.dir, "COFFER_CONFIG=" + filepath.Join(b.dir, "coffer.toml"), "PATH=" + os.Getenv("PATH")}
	_, _, err := bench.Run(ctx, b.env, filepath.Join(b.bin, "coffer"), "setup", "--upstream", "folder:"+filepath.Join(b.dir, "store"),
		"--source", "big="+filepath.Join(b.dir, "source"), "--digits-file", filepath.Join(b.dir, "digits"))
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "coffer.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	control := fmt.Appendf(nil, "control = %q\n", filepath.Join(b.dir, "control.sock"))
	return os.WriteFile(file, append(control, text...), 0o600)
}
