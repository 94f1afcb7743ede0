package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/human"
)

const (
	maxSkew     = 30 * time.Second // S3 refuses requests from 15 minutes on
	testTimeout = 30 * time.Second
	countTime   = 5 * time.Second // for counting folders
	minRoom     = 500 << 20       // bytes
)

func (p *patient) upstreams(ctx context.Context, u *config.User) {
	for _, up := range u.Upstreams {
		ctx, cancel := context.WithTimeout(ctx, testTimeout)
		r, err := testTarget(ctx, up)
		cancel()
		switch {
		case err != nil:
			p.fail("upstream", fmt.Errorf("%s: %w", upstreamName(up), err), "")
		case r.Skew.Abs() > maxSkew:
			p.warn("upstream", "sudo timedatectl set-ntp true", "%s: the clocks differ by %v", up.Name, r.Skew.Round(time.Second))
		default:
			p.ok("upstream", "%s: writes, reads and deletes, in %v", up.Name, r.Took.Round(time.Millisecond))
		}
	}
}

func (p *patient) mirrors(u *config.User) {
	if len(u.Upstreams) < 2 {
		return
	}
	info, err := os.Stat(filepath.Join(u.StateDir, journalName))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		p.fail("mirrors", err, "")
	case err == nil && info.Size() > 0:
		p.warn("mirrors", "coffer check --mirrors", "an upstream lacks what others have")
	default:
		p.ok("mirrors", "no upstream is known to lack anything")
	}
}

func (p *patient) vault(ctx context.Context, u *config.User) {
	if u.Vault.Fleet == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	v := p.app.askVault(ctx, u)
	switch {
	case v.Error != "":
		p.fail("vault", errors.New(v.describe()), "try again when the vault's nodes are up; the 64 digits do not need it")
	case v.Destroyed || !v.Registered:
		p.fail("vault", errors.New(v.describe()), "coffer password change")
	case v.Failed > 0:
		p.warn("vault", "if that was not you, change the password: coffer password change", "%s", v.describe())
	default:
		p.ok("vault", "%s", v.describe())
	}
	for _, n := range v.Nodes {
		if n.Error != "" {
			p.warn("vault", "tell the vault's operator", "node %s: %s", n.ID, n.Error)
		}
	}
}

func (p *patient) daemon(ctx context.Context, u *config.User) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := daemon.NewClient(u.Control).Status(ctx)
	switch {
	case errors.Is(err, daemon.ErrNotRunning):
		p.warn("daemon", "systemctl --user enable --now coffer", "cofferd does not run: nothing is watched")
		return
	case err != nil:
		p.fail("daemon", err, "")
		return
	case st.Locked:
		p.fail("daemon", daemon.ErrLocked, "")
	case st.Paused:
		p.warn("daemon", "coffer resume", "%s", describeDaemon(&st))
	default:
		p.ok("daemon", "%s", describeDaemon(&st))
	}
	told := make(map[string]bool)
	for _, x := range st.Problems {
		told[x.Source] = true
		switch x.Kind {
		case "locked": // said above
		case "watch", "unreadable":
			p.warn("daemon", x.Hint, "%s", x.Text)
		default:
			p.fail("daemon", errors.New(x.Text), x.Hint)
		}
	}
	for _, s := range st.Sources {
		if s.LastError != "" && !told[s.Name] {
			p.fail("daemon", fmt.Errorf("source %s: %s", s.Name, s.LastError), s.Hint)
		}
	}
}

// watchLimit compares the folders of the sources with how many the kernel lets a
// user watch.
func (p *patient) watchLimit(ctx context.Context, u *config.User) {
	limit, err := readNumber("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		p.warn("watch", "", "the watch limit is not known: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	n := 0
	for _, s := range u.Sources {
		if s.ScanOnly {
			continue
		}
		if _, err := os.Stat(s.Path); err != nil {
			p.fail("source", fmt.Errorf("%s: %w", s.Name, err), fmt.Sprintf("coffer source remove %s", s.Name))
			continue
		}
		_ = filepath.WalkDir(s.Path, func(_ string, d fs.DirEntry, err error) error { // what cannot be read is not watched either
			if err == nil && d.IsDir() {
				n++
			}
			return ctx.Err()
		})
	}
	if n > limit/10*9 {
		p.warn("watch", fmt.Sprintf("sudo sysctl fs.inotify.max_user_watches=%d", max(2*n, 524288)), "%s to watch, and the kernel allows this user %d", count(n, "folder"), limit)
		return
	}
	p.ok("watch", "%s to watch, of %d that the kernel allows", count(n, "folder"), limit)
}

func readNumber(file string) (int, error) {
	b, err := readFile(file, 64)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// secrets looks at who may read the files that hold secrets.
func (p *patient) secrets(u *config.User) {
	files := []string{p.app.configFile, u.StateDir, filepath.Join(u.StateDir, "backup.key"), filepath.Join(u.StateDir, "password.check"), u.Vault.TokenFile}
	for _, up := range u.Upstreams {
		files = append(files, up.AccessKeyFile, up.SecretKeyFile)
	}
	for _, k := range u.Gateway.Keys {
		files = append(files, k.SecretFile)
	}
	good, bad := 0, 0
	for _, f := range files {
		if f == "" {
			continue
		}
		info, err := os.Stat(f)
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(f) == filepath.Clean(u.StateDir) {
			continue // not every machine has them all
		}
		mask, mode := fs.FileMode(0o077), "600"
		switch {
		case err != nil:
			bad++
			p.fail("secrets", err, "")
			continue
		case f == p.app.configFile:
			mask = 0o022 // no secret, but who writes it decides where backups go
		case info.IsDir():
			mode = "700"
		}
		if info.Mode().Perm()&mask != 0 {
			bad++
			p.fail("secrets", fmt.Errorf("%s: mode %v lets others in", f, info.Mode().Perm()), "chmod "+mode+" "+f)
			continue
		}
		good++
	}
	if bad == 0 {
		p.ok("secrets", "nobody else may read what must stay secret: %s", count(good, "path"))
	}
}

// room looks for space on the disks of state and cache.
func (p *patient) room(u *config.User) {
	for _, dir := range []string{u.StateDir, u.CacheDir} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			continue // the cache is not there before the first backup
		}
		if free := int64(st.Bavail) * st.Bsize; free < minRoom {
			p.warn("room", "", "%s has %s left", dir, human.Size(free))
		}
	}
}

// memory looks at where the key could be written to a disk in the clear.
func (p *patient) memory() {
	var open []string
	if b, err := readFile("/proc/swaps", 64<<10); err == nil {
		open = openSwaps(b)
	}
	if len(open) > 0 {
		p.warn("memory", "encrypt it, or use zram: sudo swapoff "+open[0], "swap that may not be encrypted: %s", strings.Join(open, " "))
	} else {
		p.ok("memory", "no swap that is not encrypted")
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &lim); err == nil && lim.Cur > 0 {
		p.warn("memory", "ulimit -c 0", "core dumps are on; coffer and cofferd forbid those of themselves, other programs that have the secrets may not")
	}
}

// openSwaps are the swap areas of /proc/swaps that neither lie in memory nor on a
// mapped device, which is usually an encrypted one.
func openSwaps(b []byte) (open []string) {
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Scan() // the heading
	for s.Scan() {
		name, _, _ := strings.Cut(s.Text(), " ")
		name, _, _ = strings.Cut(name, "\t")
		if name != "" && !strings.HasPrefix(name, "/dev/dm-") && !strings.HasPrefix(name, "/dev/mapper/") && !strings.HasPrefix(name, "/dev/zram") {
			open = append(open, name)
		}
	}
	return open
}
