package main

import (
	"context"
	"os"
	"path/filepath"

	"coffer/bench"
)

// tool is one competitor.
type tool interface {
	name() string
	prepare(ctx context.Context) error // makes the empty repository
	backup(ctx context.Context) (bench.Cost, error)
	restore(ctx context.Context, target string) (bench.Cost, error)
	forget(ctx context.Context) error              // all snapshots but the last
	prune(ctx context.Context) (bench.Cost, error) // until nothing is left to do
	restored(target string) string                 // where the source's content lies below target
}

type common struct {
	r      *runner
	source string
	env    []string
}

func newCommon(r *runner, work, name string) common {
	home := filepath.Join(r.dir, "home-"+name)
	os.RemoveAll(home) // caches of the repetition before
	os.MkdirAll(home, 0o700)
	return common{r: r, source: filepath.Join(r.dir, work), env: []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + r.dir,
		"AWS_ACCESS_KEY_ID=" + r.minio.AccessKey, "AWS_SECRET_ACCESS_KEY=" + r.minio.SecretKey,
		"COFFER_CONFIG=" + filepath.Join(home, "coffer.toml"), "XDG_RUNTIME_DIR=" + filepath.Join(home, "run"),
		"RESTIC_REPOSITORY=s3:http://" + r.minio.Address + "/restic", "RESTIC_PASSWORD=bench",
	}}
}

func (c common) run(ctx context.Context, name string, args ...string) (bench.Cost, error) {
	cost, _, err := bench.Run(ctx, c.env, c.r.programs[name], args...)
	return cost, err
}

type cofferTool struct{ common }

func newCoffer(r *runner, work string) tool { return cofferTool{newCommon(r, work, "coffer")} }

func (cofferTool) name() string { return "coffer" }

func (c cofferTool) prepare(ctx context.Context) error {
	_, err := c.run(ctx, "coffer", "setup", "--upstream", "s3:http://"+c.r.minio.Address+"/coffer",
		"--source", "data="+c.source, "--digits-file", filepath.Join(c.r.dir, "home-coffer", "digits"))
	return err
}

func (c cofferTool) backup(ctx context.Context) (bench.Cost, error) {
	return c.run(ctx, "coffer", "backup")
}

func (c cofferTool) restore(ctx context.Context, target string) (bench.Cost, error) {
	return c.run(ctx, "coffer", "restore", "latest", "--to", target)
}

func (c cofferTool) forget(ctx context.Context) error {
	_, err := c.run(ctx, "coffer", "forget", "--keep-last", "1")
	return err
}

// prune runs twice, as the second run removes what the first has marked. It is to
// leave as little unused as restic does: 5 %.
func (c cofferTool) prune(ctx context.Context) (sum bench.Cost, err error) {
	for range 2 {
		one, err := c.run(ctx, "coffer", "prune", "--grace", "1ns", "--max-unused", "0.05")
		if err != nil {
			return sum, err
		}
		sum.Wall += one.Wall
		sum.CPU += one.CPU
		sum.PeakRSS = max(sum.PeakRSS, one.PeakRSS)
	}
	return sum, nil
}

func (c cofferTool) restored(target string) string { return target }

type resticTool struct{ common }

func newRestic(r *runner, work string) tool { return resticTool{newCommon(r, work, "restic")} }

func (resticTool) name() string { return "restic" }

func (t resticTool) prepare(ctx context.Context) error {
	_, err := t.run(ctx, "restic", "init", "-q")
	return err
}

func (t resticTool) backup(ctx context.Context) (bench.Cost, error) {
	return t.run(ctx, "restic", "backup", "-q", t.source)
}

func (t resticTool) restore(ctx context.Context, target string) (bench.Cost, error) {
	return t.run(ctx, "restic", "restore", "-q", "latest", "--target", target)
}

func (t resticTool) forget(ctx context.Context) error {
	_, err := t.run(ctx, "restic", "forget", "-q", "--keep-last", "1")
	return err
}

func (t resticTool) prune(ctx context.Context) (bench.Cost, error) {
	return t.run(ctx, "restic", "prune", "-q")
}

func (t resticTool) restored(target string) string { return filepath.Join(target, t.source) }
