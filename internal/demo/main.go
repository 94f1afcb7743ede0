// Command demo plays the whole promise of coffer on loopback, with the real
// programs as separate processes: three vault nodes with a SoftHSM token each,
// a daemon that watches a directory, storage that is not trusted (a folder, or
// a MinIO server), a lost laptop, and a new one that gets everything back with
// a password. Then ten wrong guesses destroy the key of a second account.
//
// It compares what comes back byte for byte and exits non-zero on any
// difference. Nothing stays running and nothing stays on disk.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the programs coffer, cofferd and coffer-vault")
	minio := flag.String("minio", "", "MinIO server to use as the untrusted storage, instead of a folder")
	keep := flag.Bool("keep", false, "keep the temporary folder")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *minio, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

// run plays the story; whatever it started is ended when it returns.
func run(ctx context.Context, bin, minio string, keep bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coffer-demo-")
	if err != nil {
		return err
	}
	s := &story{stage: newStage(ctx, bin, dir), minio: minio, start: time.Now()}
	defer func() {
		s.stage.stopAll()
		if !keep {
			os.RemoveAll(dir)
		}
	}()
	for _, act := range []func() error{
		s.startVault, s.startStorage, s.writeFiles, s.setUpLaptop, s.waitForPush, s.lookUpstream,
		s.editOneFile, s.useS3, s.loseLaptop, s.recover, s.compare, s.guessWrong,
	} {
		if err := act(); err != nil {
			s.stage.showLogs()
			return err
		}
	}
	fmt.Printf("\ndemo: ok: %d files, %d bytes identical; second account destroyed after %d guesses\n",
		s.files, s.bytes, s.guesses)
	return nil
}
