package main

import (
	"context"
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
	coffer         *coffer // nil if it is none
}

// startTargets starts the gateways over the server and makes a bucket in each.
func (b *benchmark) startTargets(ctx context.Context) (targets []*target, stop func(), err error) {
	stop = func() {
		for _, t := range targets[min(1, len(targets)):] {
			t.proc.Stop()
		}
	}
	targets = []*target{{name: "minio", url: "http://" + b.server.Address, access: b.server.AccessKey, secret: b.server.SecretKey, bucket: "direct", proc: b.server.Process()}}
	for _, start := range []func() (*target, error){
		func() (*target, error) { return b.startCoffer(ctx, "coffer", "md5") },
		func() (*target, error) { return b.startCoffer(ctx, "opaque", "opaque") },
		func() (*target, error) { return b.startRclone(ctx) },
	} {
		t, err := start()
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

func (b *benchmark) startRclone(ctx context.Context) (*target, error) {
	if err := b.server.MakeBucket(ctx, "rclone"); err != nil {
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
		b.server.AccessKey, b.server.SecretKey, b.server.Address, password)
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
