package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"coffer/bench"
)

// target is one S3 endpoint.
type target struct {
	name           string
	url            string
	access, secret string
	bucket         string
	proc           *bench.Process
}

// startTargets starts the two gateways over the server and makes a bucket in
// each of the three.
func (b *benchmark) startTargets(ctx context.Context, server *bench.MinIO) (targets []*target, stop func(), err error) {
	stop = func() {
		for _, t := range targets[min(1, len(targets)):] {
			t.proc.Stop()
		}
	}
	targets = []*target{{name: "minio", url: "http://" + server.Address, access: server.AccessKey, secret: server.SecretKey, bucket: "direct", proc: server.Process()}}
	for _, start := range []func(context.Context, *bench.MinIO) (*target, error){b.startCoffer, b.startRclone} {
		t, err := start(ctx, server)
		if err != nil {
			return targets, stop, err
		}
		targets = append(targets, t)
	}
	for _, t := range targets {
		if err := t.waitForBucket(ctx); err != nil {
			return targets, stop, err
		}
		if b.idle[t.name], err = t.proc.RSS(); err != nil {
			return targets, stop, err
		}
	}
	return targets, stop, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (b *benchmark) startCoffer(ctx context.Context, server *bench.MinIO) (*target, error) {
	if err := server.MakeBucket(ctx, "coffer"); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, "home")
	config := filepath.Join(home, "coffer.toml")
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + filepath.Join(home, "run"), "COFFER_CONFIG=" + config,
		"AWS_ACCESS_KEY_ID=" + server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + server.SecretKey}
	coffer := filepath.Join(b.bin, "coffer")
	if _, _, err := bench.Run(ctx, env, coffer, "setup", "--upstream", "s3:http://"+server.Address+"/coffer", "--digits-file", filepath.Join(b.dir, "digits"),
		"--gateway", address); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	text = bytes.Replace(text, []byte("[gateway]\n"), fmt.Appendf(nil, "[gateway]\netag = %q\n", b.etag), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	proc, err := bench.Start(env, filepath.Join(b.dir, "cofferd.log"), filepath.Join(b.bin, "cofferd"), "--config", config)
	if err != nil {
		return nil, err
	}
	_, out, err := bench.Run(ctx, env, coffer, "s3", "env", "--json")
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
	return &target{name: "coffer", url: "http://" + address, access: keys.AccessKey, secret: keys.SecretKey, bucket: "bench", proc: proc}, nil
}

func (b *benchmark) startRclone(ctx context.Context, server *bench.MinIO) (*target, error) {
	if err := server.MakeBucket(ctx, "rclone"); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(b.tools, "rclone")
	_, password, err := bench.Run(ctx, nil, program, "obscure", "bench")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(b.dir, "rclone.conf")
	text := fmt.Sprintf("[minio]\ntype = s3\nprovider = Minio\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = http://%s\n\n[crypt]\ntype = crypt\nremote = minio:rclone\npassword = %s\n",
		server.AccessKey, server.SecretKey, server.Address, password)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	proc, err := bench.Start([]string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH")}, filepath.Join(b.dir, "rclone.log"), program,
		"--config", config, "serve", "s3", "crypt:", "--addr", address, "--auth-key", "bench,benchsecret")
	if err != nil {
		return nil, err
	}
	return &target{name: "rclone", url: "http://" + address, access: "bench", secret: "benchsecret", bucket: "bench", proc: proc}, nil
}

// waitForBucket makes the bucket, as soon as the endpoint answers.
func (t *target) waitForBucket(ctx context.Context) (err error) {
	for range 100 {
		if err = t.request(ctx, "PUT", t.bucket, nil, 0, "", nil); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer: %w", t.name, err)
}
