package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"coffer/internal/config"
)

// where are the flags that say where the backups lie.
type where struct {
	upstream               string
	accessFile, secretFile string
}

func (w *where) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.upstream, "upstream", "", "where the backups lie: folder:/PATH or s3:https://HOST/BUCKET[/PREFIX]")
	w.keyFlags(cmd)
}

// keyFlags are those of them that say by which key.
func (w *where) keyFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.accessFile, "s3-access-key-file", "", "file with the S3 access key id; default $AWS_ACCESS_KEY_ID")
	f.StringVar(&w.secretFile, "s3-secret-key-file", "", "file with the S3 secret key; default $AWS_SECRET_ACCESS_KEY")
}

// parse makes the configuration of the flags.
func (w *where) parse() (config.Upstream, error) {
	u, err := parseUpstream(w.upstream)
	if err != nil {
		return u, err
	}
	if (w.accessFile == "") != (w.secretFile == "") {
		return u, usagef("--s3-access-key-file and --s3-secret-key-file belong together")
	}
	if w.accessFile != "" && u.Type != "s3" {
		return u, usagef("--s3-access-key-file is for an upstream that begins with s3:")
	}
	u.AccessKeyFile, u.SecretKeyFile = absolute(w.accessFile), absolute(w.secretFile)
	return u, nil
}

// parseUpstream reads "folder:PATH" or "s3:URL".
func parseUpstream(s string) (config.Upstream, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case kind == "folder" && rest != "":
		return config.Upstream{Name: "folder", Type: "folder", Path: absolute(rest)}, nil
	case kind == "s3":
		u, err := url.Parse(rest)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return config.Upstream{}, usagef("--upstream %q: after s3: comes https://HOST/BUCKET[/PREFIX]", withoutUser(s))
		}
		bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
		if bucket == "" {
			return config.Upstream{}, usagef("--upstream %q names no bucket", s)
		}
		if prefix != "" {
			prefix += "/"
		}
		// Amazon wants the bucket in the host name, all others take it in the path.
		return config.Upstream{
			Name: "s3", Type: "s3", Endpoint: u.Scheme + "://" + u.Host, Bucket: bucket, Prefix: prefix,
			PathStyle: !strings.HasSuffix(u.Hostname(), ".amazonaws.com"),
		}, nil
	}
	return config.Upstream{}, hint(usagef("--upstream %q: not folder:/PATH or s3:https://HOST/BUCKET[/PREFIX]", withoutUser(s)), "a folder begins with folder:, an S3 bucket with s3:")
}

// withoutUser hides a password that somebody put into the URL.
func withoutUser(s string) string {
	if head, tail, ok := strings.Cut(s, "@"); ok {
		if i := strings.Index(head, "//"); i >= 0 {
			return head[:i+2] + "..." + "@" + tail
		}
	}
	return s
}

// absolute makes a path of the command line absolute; an empty one stays empty.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := config.Expand(workingDir(), path); err == nil {
		return abs
	}
	return path
}

func workingDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return "/" // only if the folder we are in was removed
	}
	return dir
}

// keepS3Keys writes the S3 key that the environment gives into the state folder,
// as the daemon will not have that environment. Temporary keys are not kept.
func keepS3Keys(u *config.Upstream, stateDir string) error {
	access, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if u.Type != "s3" || u.AccessKeyFile != "" || access == "" || secret == "" || os.Getenv("AWS_SESSION_TOKEN") != "" {
		return nil
	}
	u.AccessKeyFile, u.SecretKeyFile = targetKeyFile(stateDir, u.Name, "access-key"), targetKeyFile(stateDir, u.Name, "secret-key")
	return errors.Join(writeKey(u.AccessKeyFile, access), writeKey(u.SecretKeyFile, secret))
}

// parseSources reads NAME=PATH, or PATH, which is named for its last part.
func parseSources(args []string) ([]config.Source, error) {
	var all []config.Source
	for _, s := range args {
		name, path, ok := strings.Cut(s, "=")
		if !ok {
			name, path = sourceName(s), s
		}
		if name == "" || path == "" {
			return nil, usagef("--source %q: not NAME=PATH", s)
		}
		path = absolute(path)
		if _, err := os.Stat(path); err != nil {
			return nil, hint(fmt.Errorf("--source %s: %w", name, err), "give a folder that exists and that you may read: NAME=PATH")
		}
		all = append(all, config.Source{Name: name, Path: path})
	}
	return all, nil
}

// sourceName names a source for the last part of its path.
func sourceName(path string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r) {
			return r
		}
		return '-'
	}, strings.TrimLeft(filepath.Base(absolute(path)), "./"))
}
