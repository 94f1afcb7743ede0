package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// storage is the place that is not trusted: a folder, or a MinIO server.
type storage struct {
	dir   string // where its bytes lie on this disk
	env   []string
	flags func(account string) []string
}

func (s *story) startStorage() error {
	s.storage.dir = filepath.Join(s.stage.dir, "storage")
	if err := os.MkdirAll(s.storage.dir, 0o755); err != nil {
		return err
	}
	if s.minio == "" {
		s.say("Storage that is not trusted: a folder")
		s.storage.flags = func(account string) []string {
			return []string{"--upstream", "folder:" + filepath.Join(s.storage.dir, account)}
		}
		return nil
	}
	s.say("Storage that is not trusted: a MinIO server")
	return s.startMinIO()
}

func (s *story) startMinIO() error {
	program, err := filepath.Abs(s.minio)
	if err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	const user, secret = "demo-access", "demo-secret-key"
	env := []string{"HOME=" + s.stage.dir, "MINIO_ROOT_USER=" + user, "MINIO_ROOT_PASSWORD=" + secret, "MINIO_BROWSER=off"}
	if _, err := s.stage.start("minio", env, program, "server", "--address", address, s.storage.dir); err != nil {
		return err
	}
	s.storage.env = []string{"AWS_ACCESS_KEY_ID=" + user, "AWS_SECRET_ACCESS_KEY=" + secret}
	s.storage.flags = func(account string) []string {
		return []string{"--upstream", "s3:http://" + address + "/" + account}
	}
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(user, secret, "")})
	if err != nil {
		return err
	}
	return s.stage.waitFor("MinIO", time.Minute, func() (bool, error) {
		for _, account := range []string{"anna", "bert"} {
			ok, err := client.BucketExists(s.stage.ctx, account)
			if err == nil && !ok {
				err = client.MakeBucket(s.stage.ctx, account, minio.MakeBucketOptions{})
			}
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// gatewayKeys are the access keys that "coffer s3 env --json" prints.
type gatewayKeys struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// useS3 puts an object through the S3 endpoint and gets it back.
func (s *story) useS3() error {
	s.say("Any S3 program, encrypted: an object through the local endpoint and back")
	out, err := s.stage.run(append(s.laptop.env(), s.storage.env...), "coffer", "s3", "env", "--json")
	if err != nil {
		return err
	}
	var keys gatewayKeys
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		return err
	}
	client, err := minio.New(fmt.Sprintf("127.0.0.1:%d", s.laptop.gateway), &minio.Options{
		Creds: credentials.NewStaticV4(keys.AccessKey, keys.SecretKey, ""), Region: "us-east-1",
		Transport: &http.Transport{ResponseHeaderTimeout: 30 * time.Second},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.stage.ctx, time.Minute)
	defer cancel()
	if err := client.MakeBucket(ctx, "letters", minio.MakeBucketOptions{}); err != nil {
		return fmt.Errorf("making a bucket: %w", err)
	}
	want := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{2}).Read(want)
	if _, err := client.PutObject(ctx, "letters", "2026/to anna.bin", bytes.NewReader(want), int64(len(want)), minio.PutObjectOptions{}); err != nil {
		return fmt.Errorf("putting an object: %w", err)
	}
	obj, err := client.GetObject(ctx, "letters", "2026/to anna.bin", minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("getting the object: %w", err)
	}
	defer obj.Close()
	got, err := io.ReadAll(obj)
	if err != nil {
		return fmt.Errorf("getting the object: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the object came back with other bytes")
	}
	found, _, _, err := findPlain(s.storage.dir, []string{"letters", "to anna", string(want[:32]), string(want[10<<20 : 10<<20+32])})
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("the storage can read %s", found)
	}
	s.note("20 MB put and got, identical; neither its name nor its bytes can be read upstream")
	return nil
}
