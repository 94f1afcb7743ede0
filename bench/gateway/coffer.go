package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coffer/bench"
)

// coffer is a gateway's configuration and how it is started.
type coffer struct {
	b       *benchmark
	env     []string
	home    string
	config  string
	metrics string // host:port
}

// startCoffer starts a gateway with one kind of ETag over a bucket of its own.
func (b *benchmark) startCoffer(ctx context.Context, name, etag string) (*target, error) {
	if err := b.server.MakeBucket(ctx, name); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	c := &coffer{b: b, home: filepath.Join(b.dir, "home-"+name)}
	if c.metrics, err = freeAddress(); err != nil {
		return nil, err
	}
	c.config = filepath.Join(c.home, "coffer.toml")
	c.env = []string{"HOME=" + c.home, "PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + filepath.Join(c.home, "run"), "COFFER_CONFIG=" + c.config,
		"AWS_ACCESS_KEY_ID=" + b.server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + b.server.SecretKey}
	program := filepath.Join(b.bin, "coffer")
	if _, _, err := bench.Run(ctx, c.env, program, "setup", "--upstream", "s3:http://"+b.server.Address+"/"+name,
		"--digits-file", filepath.Join(b.dir, "digits-"+name), "--gateway", address); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.config)
	if err != nil {
		return nil, err
	}
	text = bytes.Replace(text, []byte("[gateway]\n"), fmt.Appendf(nil, "[gateway]\netag = %q\n", etag), 1)
	text = fmt.Appendf(text, "\n[metrics]\nlisten = %q\n", c.metrics)
	if err := os.WriteFile(c.config, text, 0o600); err != nil {
		return nil, err
	}
	proc, err := c.start()
	if err != nil {
		return nil, err
	}
	_, out, err := bench.Run(ctx, c.env, program, "s3", "env", "--json")
	if err != nil {
		proc.Stop()
		return nil, err
	}
	var keys struct {
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
	}
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		proc.Stop()
		return nil, fmt.Errorf("reading the gateway's keys: %w", err)
	}
	return &target{name: name, url: "http://" + address, access: keys.AccessKey, secret: keys.SecretKey, bucket: "bench", proc: proc, coffer: c}, nil
}

func (c *coffer) start() (*bench.Process, error) {
	return bench.Start(c.env, filepath.Join(c.home, "cofferd.log"), filepath.Join(c.b.bin, "cofferd"), "--config", c.config)
}

// profile writes a processor profile of the first two seconds of a work.
func (b *benchmark) profile(ctx context.Context, t *target, w work) error {
	if b.profiles == "" || t.coffer == nil {
		return nil
	}
	resp, err := http.Get("http://" + t.coffer.metrics + "/debug/pprof/profile?seconds=2")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(b.profiles, t.name+"-"+w.name))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close(), ctx.Err())
}

// timeRebuild removes the index of the gateway and times how long it takes, from
// the start of the daemon, until the first listing is answered from a new one.
func (b *benchmark) timeRebuild(ctx context.Context, targets []*target) (time.Duration, error) {
	var t *target
	for _, t = range targets {
		if t.name == "coffer" {
			break
		}
	}
	t.proc.Stop()
	index := filepath.Join(t.coffer.home, ".local/state/coffer/gateway/index")
	if _, err := os.Stat(index); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(index); err != nil {
		return 0, err
	}
	began := time.Now()
	proc, err := t.coffer.start()
	if err != nil {
		return 0, err
	}
	t.proc = proc
	var page bytes.Buffer
	for {
		page.Reset()
		if err = t.request(ctx, "GET", t.bucket+"?list-type=2&prefix=small", nil, 0, "", &page); err == nil || time.Since(began) > time.Minute {
			break
		}
		time.Sleep(5 * time.Millisecond) // it is not up yet
	}
	took := time.Since(began)
	if err == nil && !strings.Contains(page.String(), "<Key>small0</Key>") {
		err = fmt.Errorf("the listing holds no small0: %.200s", page.String())
	}
	fmt.Printf("coffer  rebuild    wall %6.2f s\n", took.Seconds())
	return took, err
}
