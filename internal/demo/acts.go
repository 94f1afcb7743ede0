package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coffer/internal/human"
)

// The two passwords of the story, and the exit statuses of "coffer recover".
const (
	password      = "correct-horse-and-a-stapler"
	otherPassword = "violet-umbrella-forty-two"

	exitWrongPassword = 12
	exitDestroyed     = 15
)

// story is the state that the acts hand on.
type story struct {
	stage *stage
	minio string // MinIO server's program, "" for the folder upstream
	start time.Time

	fleet    fleet
	storage  storage
	laptop   machine
	files    int
	bytes    int64
	guesses  int
	lastSnap string
}

func (s *story) say(format string, args ...any) {
	fmt.Printf("\n[%5.1fs] %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

func (s *story) note(format string, args ...any) {
	fmt.Printf("         %s\n", fmt.Sprintf(format, args...))
}

// machine is one computer of the story: a home of its own.
type machine struct {
	name    string
	home    string
	config  string
	files   string // the watched directory
	gateway int    // port of the S3 endpoint
	daemon  *proc
}

func (s *story) newMachine(name string) (machine, error) {
	home := filepath.Join(s.stage.dir, name)
	ports, err := freePorts(1)
	if err != nil {
		return machine{}, err
	}
	m := machine{name: name, home: home, config: filepath.Join(home, "coffer.toml"),
		files: filepath.Join(home, "files"), gateway: ports[0]}
	return m, os.MkdirAll(m.files, 0o755)
}

func (m machine) env() []string {
	return []string{"HOME=" + m.home, "XDG_RUNTIME_DIR=" + filepath.Join(m.home, "run"), "COFFER_CONFIG=" + m.config}
}

// writeFiles fills the laptop: the Go standard library's sources, a large
// binary, bytes that no compression helps, and a symlink.
func (s *story) writeFiles() (err error) {
	s.say("A laptop with real files: the sources of Go's standard library and large binaries")
	if s.laptop, err = s.newMachine("laptop"); err != nil {
		return err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("asking go where its sources are: %w", err)
	}
	if err := copyTree(filepath.Join(s.laptop.files, "src"), filepath.Join(strings.TrimSpace(string(goroot)), "src")); err != nil {
		return err
	}
	program, err := os.ReadFile(filepath.Join(s.stage.bin, "coffer-vault"))
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(s.laptop.files, "coffer-vault"), program, 0o755),
		writeRandom(filepath.Join(s.laptop.files, "photos.raw"), 64<<20),
		os.Symlink("src/net/http", filepath.Join(s.laptop.files, "http")),
	)
}

// passwordFile writes a password where a command can read it.
func (s *story) passwordFile(name, text string) (string, error) {
	file := filepath.Join(s.stage.dir, name+".password")
	return file, os.WriteFile(file, []byte(text+"\n"), 0o600)
}

func (s *story) vaultFlags(account, passwordFile string) []string {
	return []string{"--vault-fleet", s.fleet.manifest, "--vault-root", s.fleet.root, "--account", account, "--password-file", passwordFile}
}

// setUpLaptop makes the backup key, gives it to the vault behind a password and
// starts the daemon.
func (s *story) setUpLaptop() error {
	s.say("coffer setup: a new 256-bit backup key, kept by the vault behind a password; then the daemon")
	file, err := s.passwordFile("anna", password)
	if err != nil {
		return err
	}
	args := append([]string{"setup", "--source", "files=" + s.laptop.files, "--quiet-time", "1s",
		"--gateway", "127.0.0.1:" + strconv.Itoa(s.laptop.gateway)}, s.storage.flags("anna")...)
	if _, err := s.stage.run(append(s.laptop.env(), s.storage.env...), "coffer", append(args, s.vaultFlags("anna", file)...)...); err != nil {
		return err
	}
	s.laptop.daemon, err = s.stage.start("daemon", append(s.laptop.env(), s.storage.env...), filepath.Join(s.stage.bin, "cofferd"), "--config", s.laptop.config)
	return err
}

// snapshot is what the story reads of "coffer snapshots --json".
type snapshot struct {
	ID    string `json:"id"`
	Stats struct {
		Files    int64 `json:"files"`
		Bytes    int64 `json:"bytes"`
		Uploaded int64 `json:"uploaded"`
	} `json:"stats"`
}

func (s *story) snapshots() ([]snapshot, error) {
	out, err := s.stage.run(append(s.laptop.env(), s.storage.env...), "coffer", "snapshots", "--json")
	if err != nil {
		return nil, err
	}
	var list []snapshot
	return list, json.Unmarshal([]byte(out), &list)
}

// newSnapshot waits for a snapshot that was not there before.
func (s *story) newSnapshot() (last snapshot, err error) {
	err = s.stage.waitFor("a new snapshot", 2*time.Minute, func() (bool, error) {
		list, err := s.snapshots()
		if err != nil || len(list) == 0 {
			return false, err
		}
		last = list[len(list)-1]
		return last.ID != s.lastSnap, nil
	})
	s.lastSnap = last.ID
	return last, err
}

func (s *story) waitForPush() error {
	s.say("The watcher pushes what it sees")
	snap, err := s.newSnapshot()
	if err != nil {
		return err
	}
	s.note("snapshot %s: %d files, %s read, %s uploaded", snap.ID, snap.Stats.Files, human.Size(snap.Stats.Bytes), human.Size(snap.Stats.Uploaded))
	return nil
}

// lookUpstream reads every byte the storage has and looks for what a person
// could read.
func (s *story) lookUpstream() error {
	s.say("What the storage sees")
	found, files, size, err := findPlain(s.storage.dir, []string{
		"Copyright 2009 The Go Authors", "package http", "func main()", "server.go", "photos.raw", "crypto/aes", "quickcheck", password, "\x7fELF\x02",
	})
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("the storage can read %s", found)
	}
	s.note("%d files, %s: no name, no content of the source tree anywhere in them", files, human.Size(size))
	return nil
}

func (s *story) editOneFile() error {
	s.say("One line more in one file")
	f, err := os.OpenFile(filepath.Join(s.laptop.files, "src", "net", "http", "server.go"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n// edited on the laptop\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	snap, err := s.newSnapshot()
	if err != nil {
		return err
	}
	s.note("snapshot %s: %d files again, but only %s uploaded", snap.ID, snap.Stats.Files, human.Size(snap.Stats.Uploaded))
	if snap.Stats.Uploaded > 4<<20 {
		return fmt.Errorf("an edit of one line uploaded %d bytes", snap.Stats.Uploaded)
	}
	return nil
}

// loseLaptop kills the daemon and deletes everything the laptop knew; the files
// are set aside only so that the restored ones can be compared with them.
func (s *story) loseLaptop() error {
	s.say("The laptop is lost: daemon killed, its disk gone")
	s.laptop.daemon.kill()
	if err := os.Rename(s.laptop.files, filepath.Join(s.stage.dir, "truth")); err != nil {
		return err
	}
	return os.RemoveAll(s.laptop.home)
}

// recover is a new machine: the storage's address, the vault's, a password.
func (s *story) recover() error {
	s.say("A new machine, with nothing but the password")
	m, err := s.newMachine("new-machine")
	if err != nil {
		return err
	}
	file := filepath.Join(s.stage.dir, "anna.password")
	args := append(append([]string{"recover"}, s.storage.flags("anna")...), s.vaultFlags("anna", file)...)
	if _, err := s.stage.run(append(m.env(), s.storage.env...), "coffer", args...); err != nil {
		return err
	}
	s.note("the vault gave the backup key back")
	began := time.Now()
	if _, err := s.stage.run(append(m.env(), s.storage.env...), "coffer", "restore", "latest", "--to", filepath.Join(s.stage.dir, "restored")); err != nil {
		return err
	}
	s.note("restored in %.1f s", time.Since(began).Seconds())
	return nil
}

func (s *story) compare() (err error) {
	s.say("Comparing every byte, mode, time and link")
	s.files, s.bytes, err = compareTrees(filepath.Join(s.stage.dir, "truth"), filepath.Join(s.stage.dir, "restored"))
	if err == nil {
		s.note("%d files, %s: identical", s.files, human.Size(s.bytes))
	}
	return err
}

// guessWrong spends the budget of a second account and shows that the right
// password no longer helps.
func (s *story) guessWrong() error {
	s.say("A second account, and somebody who guesses")
	m, err := s.newMachine("bert")
	if err != nil {
		return err
	}
	right, err := s.passwordFile("bert", otherPassword)
	if err != nil {
		return err
	}
	args := append([]string{"setup", "--source", "files=" + m.files}, s.storage.flags("bert")...)
	if _, err := s.stage.run(append(m.env(), s.storage.env...), "coffer", append(args, s.vaultFlags("bert", right)...)...); err != nil {
		return err
	}
	try := func(file string) (int, string) {
		thief, err := s.newMachine("thief")
		if err != nil {
			return -1, err.Error()
		}
		defer os.RemoveAll(thief.home)
		args := append(append([]string{"recover"}, s.storage.flags("bert")...), s.vaultFlags("bert", file)...)
		_, err = s.stage.run(append(thief.env(), s.storage.env...), "coffer", args...)
		var f *failed
		if errors.As(err, &f) {
			return f.code, strings.TrimSpace(f.stderr)
		}
		return 0, ""
	}
	for n := 1; n <= 10; n++ {
		wrong, err := s.passwordFile("guess", fmt.Sprintf("violet-umbrella-%d", n))
		if err != nil {
			return err
		}
		code, text := try(wrong)
		if code != exitWrongPassword && !(n == 10 && code == exitDestroyed) {
			return fmt.Errorf("guess %d: exit status %d: %s", n, code, text)
		}
		s.note("guess %2d: %s", n, errorLine(text))
		s.guesses = n
	}
	code, text := try(right)
	if code != exitDestroyed {
		return fmt.Errorf("the right password after ten wrong ones: exit status %d, want %d: %s", code, exitDestroyed, text)
	}
	s.note("and the right password: %s", errorLine(text))
	return nil
}

// errorLine finds the line that says what went wrong.
func errorLine(stderr string) string {
	for line := range strings.Lines(stderr) {
		if text, ok := strings.CutPrefix(line, "coffer: error: "); ok {
			return strings.TrimSpace(text)
		}
	}
	return stderr
}
