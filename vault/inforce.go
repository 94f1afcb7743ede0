package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"coffer/internal/durable"
)

// inForce is the manifest that a node follows at a moment.
type inForce struct {
	manifest *Manifest
	file     []byte // the fleet file
	hash     [32]byte
	// stretched holds the parameters of all manifests that the node has followed: a
	// record from before the last change is as good as one from after it.
	stretched map[Argon]bool
}

// followedName is the file of the manifests that a node has followed, a CBOR sequence
// with the newest last. What is not in it, the operator has skipped on this node.
const followedName = "manifests"

// NewestManifest returns the newer of file, the fleet file that the operator has put
// there, and the newest that the node with the folder dir has followed, which it may
// have heard of from another node. It fails with [ErrManifest].
func NewestManifest(dir string, file []byte, roots Roots) ([]byte, *Manifest, error) {
	now, err := readInForce(dir, file, roots)
	if err != nil {
		return nil, nil, err
	}
	return now.file, now.manifest, nil
}

func readInForce(dir string, file []byte, roots Roots) (*inForce, error) {
	sm, err := ParseManifest(file)
	if err != nil {
		return nil, err
	}
	m, err := sm.Verify(roots, time.Time{})
	if err != nil {
		return nil, err
	}
	now := &inForce{manifest: m, file: file, hash: m.Hash(), stretched: map[Argon]bool{m.Argon: true}}
	b, err := readSmall(filepath.Join(dir, followedName), maxManifestLog)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	d := dec.NewDecoder(bytes.NewReader(b))
	for n := 1; ; n++ {
		var s SignedManifest
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%w: number %d of %s cannot be read", ErrManifest, n, followedName)
		}
		was, err := s.Verify(roots, time.Time{})
		if err != nil {
			return nil, fmt.Errorf("number %d of %s: %w", n, followedName, err)
		}
		if was.Fleet != m.Fleet {
			return nil, fmt.Errorf("%w: this node is of fleet %x", ErrManifest, was.Fleet)
		}
		now.stretched[was.Argon] = true
		if was.Sequence > now.manifest.Sequence {
			now.manifest, now.file, now.hash = was, s.Bytes(), was.Hash()
		}
	}
	if _, err := sm.Verify(roots, time.Now()); err != nil && bytes.Equal(now.file, file) {
		return nil, err
	}
	if time.Now().Unix() > now.manifest.NotAfter {
		return nil, fmt.Errorf("%w: number %d", ErrExpired, now.manifest.Sequence)
	}
	return now, nil
}

// inForce returns the manifest that this node follows.
func (s *Server) inForce() *inForce { return s.force.Load() }

// ManifestExpires says until when clients believe the manifest that the node follows.
// A node does not start with one that is out of date.
func (s *Server) ManifestExpires() time.Time { return time.Unix(s.inForce().manifest.NotAfter, 0) }

// Follow makes the node follow another fleet file, if it is a newer manifest of the
// same fleet with a quorum of the pinned roots. It says whether that was so; what is
// not newer is no error. It fails with [ErrManifest] for what the node must not or
// cannot follow, and goes on as before.
func (s *Server) Follow(file []byte) (newer bool, err error) {
	sm, err := ParseManifest(file)
	if err != nil {
		return false, err
	}
	m, err := sm.Verify(s.c.Roots, time.Now())
	if err != nil {
		return false, err
	}
	s.following.Lock()
	defer s.following.Unlock()
	was := s.inForce()
	switch {
	case m.Fleet != was.manifest.Fleet:
		return false, fmt.Errorf("%w: it is another fleet's", ErrManifest)
	case m.Sequence < was.manifest.Sequence || m.Hash() == was.hash:
		return false, nil
	case m.Sequence == was.manifest.Sequence, m.Sequence == was.manifest.Sequence+1 && m.Previous != was.hash:
		return false, fmt.Errorf("%w: number %d is not the successor of the one followed", ErrManifest, m.Sequence)
	}
	own, before := nodeOf(m, s.c.NodeID), nodeOf(was.manifest, s.c.NodeID)
	if own.Identity != before.Identity {
		return false, fmt.Errorf("%w: node %q is not in it with the identity that its HSM has", ErrManifest, s.c.NodeID)
	}
	if s.c.Adopt != nil {
		if err := s.c.Adopt(m); err != nil {
			return false, fmt.Errorf("%w: number %d: %w", ErrManifest, m.Sequence, err)
		}
	}
	now := &inForce{manifest: m, file: file, hash: m.Hash(), stretched: map[Argon]bool{m.Argon: true}}
	for a := range was.stretched {
		now.stretched[a] = true
	}
	if err := noteFollowed(s.c.Dir, file); err != nil {
		return false, err
	}
	s.force.Store(now)
	s.witness.follow(m, now.hash)
	return true, nil
}

func nodeOf(m *Manifest, id string) Node {
	n, _ := m.Node(id)
	return n
}

// noteFollowed appends a fleet file to those that the node in dir has followed, unless
// it is there.
func noteFollowed(dir string, file []byte) error {
	path := filepath.Join(dir, followedName)
	b, err := readSmall(path, maxManifestLog)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if bytes.HasSuffix(b, file) {
		return nil
	}
	if len(b)+len(file) > maxManifestLog {
		return fmt.Errorf("vault: %s is too long", path)
	}
	return durable.WriteFile(path, append(b, file...), 0o600)
}
