package upstream_test

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// appendOnly are the keys that the policy in OPERATIONS.md describes, of a real store.
func appendOnly(t *testing.T, server *testminio.Server, c upstream.Config) credentials.Value {
	t.Helper()
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	policy := regexp.MustCompile(`(?s)    (\{"Version": "2012-10-17".*?\}\]\})\n`).FindSubmatch(text)
	if policy == nil {
		t.Fatal("OPERATIONS.md has no policy")
	}
	keys, err := credentials.NewSTSAssumeRole(server.Endpoint, credentials.STSAssumeRoleOptions{
		AccessKey: server.Access, SecretKey: server.Secret, RoleARN: "arn:x:x:x:x", RoleSessionName: "test",
		Policy: strings.NewReplacer("BUCKET", c.Bucket, "PREFIX", c.Prefix).Replace(string(policy[1])),
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := keys.GetWithContext(nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAppendOnlyPolicy: the policy of OPERATIONS.md is enough for all that coffer
// does, and lets no history be destroyed, with a lock or without.
func TestAppendOnlyPolicy(t *testing.T) {
	_, owner, c := lockedBucket(t, "governance")
	server := &testminio.Server{Endpoint: c.Endpoint, Access: c.AccessKey, Secret: c.SecretKey.Reveal()}
	v := appendOnly(t, server, c)
	t.Setenv("AWS_ACCESS_KEY_ID", v.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", v.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", v.SessionToken)
	c.AccessKey, c.SecretKey, c.Create, c.Region = "", upstream.Secret{}, false, ""
	opened, err := upstream.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	b := opened.(*upstream.S3)
	data := randomBytes(17 << 20)
	for _, name := range []string{"repo/pack", "s3/object"} {
		put(t, b, name, data[:1000], upstream.PutOptions{IfAbsent: true})
		get(t, b, name, 0, -1)
		if _, err := b.Copy(t.Context(), name, name, upstream.PutOptions{Meta: map[string]string{"k": "v"}}); err != nil {
			t.Error(err)
		}
		if _, err := b.Put(t.Context(), name+"-long", bytes.NewReader(data), -1, upstream.PutOptions{}); err != nil {
			t.Error(err)
		}
	}
	if done, err := b.Extend(t.Context(), "repo/pack", time.Time{}); err != nil || !done {
		t.Errorf("extended: %t, %v", done, err)
	}
	for _, name := range []string{"repo/pack", "s3/object"} {
		if err := b.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if names := list(t, b, "", ""); len(names) != 2 {
		t.Errorf("left: %q", names)
	}
	if h, err := b.Hidden(t.Context(), ""); err != nil || h.Objects != 4 {
		t.Errorf("hidden: %+v, %v", h, err)
	}
	id, err := b.StartMultipart(t.Context(), "s3/upload", upstream.PutOptions{})
	if err == nil {
		err = b.AbortMultipart(t.Context(), "s3/upload", id)
	}
	if err != nil {
		t.Error(err)
	}

	thief, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(v.AccessKeyID, v.SecretAccessKey, v.SessionToken)})
	if err != nil {
		t.Fatal(err)
	}
	versions := 0
	for o := range owner.ListObjects(t.Context(), c.Bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.IsDeleteMarker {
			continue
		}
		versions++
		err := thief.RemoveObject(t.Context(), c.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true})
		if minio.ToErrorResponse(err).Code != minio.AccessDenied {
			t.Errorf("%s: a version removed by an append-only key: %v", o.Key, err)
		}
	}
	if versions < 6 {
		t.Errorf("only %d versions", versions)
	}
	if err := thief.SuspendVersioning(t.Context(), c.Bucket); err == nil {
		t.Error("versioning was suspended by an append-only key")
	}
	if err := thief.SetBucketLifecycle(t.Context(), c.Bucket, nil); err == nil {
		t.Error("the lifecycle rules were changed by an append-only key")
	}

	// The way back: without their markers the objects are there again.
	for o := range owner.ListObjects(t.Context(), c.Bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.IsLatest && o.IsDeleteMarker {
			if err := owner.RemoveObject(t.Context(), c.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := b.Head(t.Context(), "repo/pack"); err != nil {
		t.Error(err)
	}
	if _, err := b.Head(t.Context(), "s3/never"); !errors.Is(err, upstream.ErrNotExist) {
		t.Error(err)
	}
}
