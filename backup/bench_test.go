package backup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coffer/seal"
	"coffer/upstream"
)

// sources are the kinds of trees of reference benchmarks, made smaller.
var sources = map[string]func(dir string){
	"large": func(dir string) { // incompressible, 256 MiB in 12 files
		for i := range 12 {
			writeBench(filepath.Join(dir, fmt.Sprint(i)), random(uint64(i), 256<<20/12))
		}
	},
	"small": func(dir string) { // 20,000 files of 1 to 16 KiB
		data := random(1, 1<<20)
		for i := range 20_000 {
			sub := filepath.Join(dir, fmt.Sprint(i%200))
			os.MkdirAll(sub, 0o755)
			off := i * 37 % (len(data) - 16<<10)
			writeBench(filepath.Join(sub, fmt.Sprint(i)), append([]byte(fmt.Sprint(i)), data[off:off+1024+i*7919%(15<<10)]...))
		}
	},
	"tree": func(dir string) { // Go's own sources
		goroot, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			panic(err)
		}
		os.CopyFS(dir, os.DirFS(filepath.Join(strings.TrimSpace(string(goroot)), "src")))
	},
}

func writeBench(name string, data []byte) {
	if err := os.WriteFile(name, data, 0o644); err != nil {
		panic(err)
	}
}

// BenchmarkBackup measures a first run, an unchanged one and a restore of each
// kind of tree, against a folder.
func BenchmarkBackup(b *testing.B) {
	outer := b // its folders outlive those of one measurement
	for _, kind := range []string{"large", "small", "tree"} {
		src := filepath.Join(b.TempDir(), "src")
		must(b, os.Mkdir(src, 0o755))
		sources[kind](src)
		var last *fixture
		b.Run(kind+"/first", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				f := &fixture{tb: outer, src: src}
				bucket, err := upstream.NewFolder(outer.TempDir())
				must(b, err)
				f.bucket = bucket
				f.conf = Config{Bucket: bucket, Keys: seal.NewKey().Keys(seal.NewStoreID()), CacheDir: outer.TempDir()}
				must(b, Init(b.Context(), f.conf))
				f.reopen()
				b.StartTimer()
				_, rep := f.backup()
				b.SetBytes(rep.Bytes)
				b.ReportMetric(float64(rep.Uploaded)/(1<<20), "MiB-sent")
				last = f
			}
		})
		b.Run(kind+"/unchanged", func(b *testing.B) {
			for b.Loop() {
				last.reopen()
				if _, rep := last.backup(); rep.Packs > 1 {
					b.Errorf("%+v", rep)
				}
			}
		})
		b.Run(kind+"/restore", func(b *testing.B) {
			for b.Loop() {
				last.reopen()
				_, rep := last.restore()
				b.SetBytes(rep.Bytes)
			}
		})
	}
}
