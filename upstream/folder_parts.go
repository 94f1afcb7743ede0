package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An upload is the folder .coffer/parts/ID: "upload" is an object file whose bytes
// are the name and whose metadata is that of the object, "00001" is part 1. A
// part has the frame of the whole object, so that an upload of one part becomes
// an object by a rename.

// StartMultipart implements [Bucket].
func (f *Folder) StartMultipart(ctx context.Context, name string, o PutOptions) (string, error) {
	err := errors.Join(checkName(name), checkMeta(o.Meta), ctx.Err())
	var id string
	if err == nil {
		id, err = f.startParts(name, o.Meta)
	}
	if err != nil {
		return "", fmt.Errorf("starting upload of %q: %w", name, folderError(err))
	}
	return id, nil
}

func (f *Folder) startParts(name string, meta map[string]string) (string, error) {
	temp, _, err := f.writeTemp(meta, func(w *os.File) (int64, error) {
		return bytes.NewReader([]byte(name)).WriteTo(w)
	})
	if err != nil {
		return "", err
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	if err := f.root.Mkdir(partsDir(id), 0o700); err != nil {
		return "", err
	}
	if err := f.moveIn(temp, id, "upload"); err != nil {
		return "", err
	}
	return id, f.dirs.sync(ownFolder + "/parts")
}

func partsDir(id string) string { return ownFolder + "/parts/" + id }

// moveIn makes the temporary file temp the file base of the upload id.
func (f *Folder) moveIn(temp, id, base string) error {
	d, err := f.root.Open(partsDir(id))
	if err == nil {
		err = unix.Renameat(int(f.tmp.Fd()), temp, int(d.Fd()), base)
		if err == nil {
			err = d.Sync()
		}
		err = errors.Join(err, d.Close())
	}
	if err != nil {
		_ = f.root.Remove(ownFolder + "/tmp/" + temp) // the sweep takes what stays
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("upload is gone: %w", ErrNotExist)
	}
	return err
}

// upload reads what StartMultipart wrote.
func (f *Folder) upload(id string) (Upload, map[string]string, error) {
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 || id != strings.ToLower(id) {
		return Upload{}, nil, fmt.Errorf("upload %.40q: %w", id, ErrNotExist)
	}
	file, info, err := f.openPath(partsDir(id) + "/upload")
	if errors.Is(err, fs.ErrNotExist) {
		return Upload{}, nil, fmt.Errorf("upload %s: %w", id, cmp.Or(f.alive(), ErrNotExist))
	}
	if err != nil {
		return Upload{}, nil, err
	}
	name, err := io.ReadAll(io.NewSectionReader(file, 0, min(info.Size, MaxName)))
	if err = errors.Join(err, file.Close()); err != nil {
		return Upload{}, nil, err
	}
	return Upload{Name: string(name), ID: id, Started: info.ModTime}, info.Meta, nil
}

// uploadOf is upload for a caller who says which name it is for.
func (f *Folder) uploadOf(name, id string) (map[string]string, error) {
	u, meta, err := f.upload(id)
	if err == nil && u.Name != name {
		err = fmt.Errorf("upload %s is for another object: %w", id, ErrNotExist)
	}
	return meta, err
}

// PutPart implements [Bucket].
func (f *Folder) PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	etag, err := f.putPart(ctx, name, id, number, body, size)
	if err != nil {
		return "", fmt.Errorf("putting part %d of %q: %w", number, name, folderError(err))
	}
	return etag, nil
}

func (f *Folder) putPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	if number < 1 || number > MaxParts {
		return "", fmt.Errorf("part number, want 1 to %d", MaxParts)
	}
	meta, err := f.uploadOf(name, id)
	if err != nil {
		return "", err
	}
	temp, info, err := f.writeTemp(meta, func(w *os.File) (int64, error) {
		return copyBody(ctx, w, body, size)
	})
	if err != nil {
		return "", err
	}
	return info.ETag, f.moveIn(temp, id, partFile(number))
}

func partFile(number int) string { return fmt.Sprintf("%05d", number) }

// CompleteMultipart implements [Bucket].
func (f *Folder) CompleteMultipart(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error) {
	info, err := f.complete(ctx, name, id, parts, o)
	if err != nil {
		return Info{}, fmt.Errorf("completing upload of %q: %w", name, folderError(err))
	}
	return info, nil
}

func (f *Folder) complete(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error) {
	meta, err := f.uploadOf(name, id)
	if err != nil {
		return Info{}, err
	}
	if err := checkParts(parts); err != nil {
		return Info{}, err
	}
	if err := f.condition(name, o); err != nil {
		return Info{}, err
	}
	var info Info
	if len(parts) == 1 {
		info, err = f.completeOne(name, id, parts[0], o)
	} else {
		o.Meta = meta
		info, err = f.put(ctx, name, o, func(w *os.File) (int64, error) {
			return f.join(ctx, w, id, parts)
		})
	}
	if err != nil {
		return Info{}, err
	}
	return info, f.root.RemoveAll(partsDir(id))
}

// checkParts refuses a list that no store would take.
func checkParts(parts []Part) error {
	if len(parts) == 0 || len(parts) > MaxParts {
		return fmt.Errorf("%d parts, want 1 to %d", len(parts), MaxParts)
	}
	if !slices.IsSortedFunc(parts, func(a, b Part) int { return cmp.Compare(a.Number, b.Number) }) {
		return errors.New("numbers of parts do not ascend")
	}
	for i := 1; i < len(parts); i++ {
		if parts[i].Number == parts[i-1].Number {
			return fmt.Errorf("part %d is there twice", parts[i].Number)
		}
	}
	return nil
}

// openPart opens a part and makes sure that it is the one meant.
func (f *Folder) openPart(id string, p Part) (*os.File, Info, error) {
	file, info, err := f.openPath(partsDir(id) + "/" + partFile(p.Number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Info{}, fmt.Errorf("part %d was not uploaded", p.Number)
	}
	if err != nil {
		return nil, Info{}, err
	}
	if info.ETag != p.ETag {
		_ = file.Close() // only read
		return nil, Info{}, fmt.Errorf("part %d has another ETag", p.Number)
	}
	return file, info, nil
}

func (f *Folder) completeOne(name, id string, p Part, o PutOptions) (Info, error) {
	file, info, err := f.openPart(id, p)
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	d, err := f.root.Open(partsDir(id))
	if err != nil {
		return Info{}, err
	}
	defer d.Close()
	now := time.Now()
	if err := f.root.Chtimes(partsDir(id)+"/"+partFile(p.Number), now, now); err != nil {
		return Info{}, err
	}
	info.Name, info.ModTime = name, now
	return info, f.commit(d, partFile(p.Number), name, o)
}

// join writes all parts to w.
func (f *Folder) join(ctx context.Context, w *os.File, id string, parts []Part) (int64, error) {
	var total int64
	for _, p := range parts {
		file, info, err := f.openPart(id, p)
		if err != nil {
			return 0, err
		}
		err = copyRange(ctx, w, file, info.Size)
		if err = errors.Join(err, file.Close()); err != nil {
			return 0, err
		}
		total += info.Size
	}
	return total, nil
}

// AbortMultipart implements [Bucket].
func (f *Folder) AbortMultipart(ctx context.Context, name, id string) error {
	_, err := f.uploadOf(name, id)
	if err == nil {
		err = f.root.RemoveAll(partsDir(id))
	}
	if err = errors.Join(err, ctx.Err()); err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("aborting upload of %q: %w", name, folderError(err))
	}
	return nil
}

// ListMultipart implements [Bucket].
func (f *Folder) ListMultipart(ctx context.Context, prefix string, fn func(Upload) error) error {
	entries, err := fs.ReadDir(f.root.FS(), ownFolder+"/parts")
	if err != nil {
		return fmt.Errorf("listing uploads: %w", folderError(err))
	}
	var uploads []Upload
	for _, e := range entries {
		u, _, err := f.upload(e.Name())
		if errors.Is(err, ErrNotExist) || errors.Is(err, ErrDamaged) {
			continue // just begun, or just ended; the sweep takes the rest
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("listing uploads: %w", folderError(err))
		}
		if strings.HasPrefix(u.Name, prefix) {
			uploads = append(uploads, u)
		}
	}
	slices.SortFunc(uploads, func(a, b Upload) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Started.Compare(b.Started))
	})
	for _, u := range uploads {
		if err := fn(u); err != nil {
			return err
		}
	}
	return nil
}
