package web

import (
	"archive/tar"
	"archive/zip"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
)

// leftOut is the name of a file that is put into an archive when something of
// the folder is not in it.
const leftOut = "LEFT-OUT.txt"

// archive takes what lies in a folder, parents first.
type archive interface {
	// add puts one entry in; content is nil for what is no file.
	add(name string, e backup.Entry, content io.Reader) error
	Close() error
}

// downloadFolder sends a folder as it is read, as zip or tar. Nothing is
// gathered before, so its size is not known; a failure breaks the connection.
func (w *Web) downloadFolder(rw http.ResponseWriter, r *http.Request) {
	kind, mime := r.FormValue("as"), "application/zip"
	switch kind {
	case "zip":
	case "tar":
		mime = "application/x-tar"
	default:
		w.fail(rw, r, http.StatusBadRequest, "A folder comes as zip or as tar.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	p, ok := w.find(ctx, rw, r)
	if !ok {
		return
	}
	if !p.entry.Dir() {
		w.fail(rw, r, http.StatusNotFound, "This is no folder.")
		return
	}
	name := p.snapshot.Source
	if p.path != "/" {
		name = p.entry.Name
	}
	name += "-" + p.snapshot.Time.Local().Format("2006-01-02-1504")
	fromSnapshot(rw.Header(), name+"."+kind, mime)
	if r.Method == http.MethodHead {
		return
	}
	w.log.Debug("web: folder", zap.String("snapshot", p.snapshot.ID), zap.String("path", p.path), zap.String("as", kind))
	var out archive
	dst := &deadlined{ResponseWriter: rw, c: http.NewResponseController(rw)}
	if kind == "zip" {
		out = newZip(dst)
	} else {
		out = &tarArchive{tar.NewWriter(dst)}
	}
	if err := p.pack(r.Context(), out); err != nil {
		if r.Context().Err() == nil {
			w.log.Warn("web: a download broke off", zap.String("snapshot", p.snapshot.ID), zap.NamedError("error", withoutName(err)))
		}
		panic(http.ErrAbortHandler) // so that the browser does not take a part for the whole
	}
}

// pack puts all that is below p into out.
func (p place) pack(ctx context.Context, out archive) error {
	var missing []string
	err := p.repo.Walk(ctx, p.snapshot, p.path, func(path string, e backup.Entry) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, p.path), "/")
		switch {
		case name == "":
			return nil
		case e.Missing:
			missing = append(missing, printable(name)+": could not be read when it was backed up")
		case e.Type == "file":
			f, err := p.repo.ReadFile(ctx, p.snapshot, path, 0, -1)
			if err != nil {
				return err
			}
			defer f.Close()
			return out.add(name, e, f)
		case e.Dir(), e.Type == "symlink":
			return out.add(name, e, nil)
		default:
			missing = append(missing, printable(name)+": "+e.Type)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		text := "In the snapshot, but not in this archive:\n\n" + strings.Join(missing, "\n") + "\n"
		e := backup.Entry{Name: leftOut, Type: "file", Mode: 0o600, Size: int64(len(text)), ModTime: p.snapshot.Time}
		if err := out.add(leftOut, e, strings.NewReader(text)); err != nil {
			return err
		}
	}
	return out.Close()
}

// mode is that of an entry as package fs has it, without setuid and setgid: who
// unpacks an archive did not ask for such programs.
func mode(e backup.Entry) fs.FileMode {
	m := fs.FileMode(e.Mode & 0o777)
	switch {
	case e.Dir():
		m |= fs.ModeDir
	case e.Type == "symlink":
		m |= fs.ModeSymlink
	}
	return m
}

// zipArchive is what every desktop opens.
type zipArchive struct{ *zip.Writer }

func newZip(w io.Writer) zipArchive {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	return zipArchive{z}
}

func (z zipArchive) add(name string, e backup.Entry, content io.Reader) error {
	h := &zip.FileHeader{Name: strings.ReplaceAll(strings.ToValidUTF8(name, "\uFFFD"), `\`, "_"), Modified: e.ModTime, Method: zip.Deflate}
	h.SetMode(mode(e))
	switch {
	case e.Dir():
		h.Name, h.Method = h.Name+"/", zip.Store
	case e.Type == "symlink":
		content = strings.NewReader(e.Target)
	}
	f, err := z.CreateHeader(h)
	if err != nil {
		return fmt.Errorf("zip: %w", err)
	}
	return copyAll(f, content, e)
}

// tarArchive keeps more: owners, exact times and names that are no text.
type tarArchive struct{ *tar.Writer }

func (t *tarArchive) add(name string, e backup.Entry, content io.Reader) error {
	h := &tar.Header{Name: name, Mode: int64(e.Mode & 0o777), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.ModTime, Format: tar.FormatPAX}
	switch {
	case e.Dir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case e.Type == "symlink":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	default:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	}
	if e.ModTime.IsZero() {
		h.ModTime = time.Unix(0, 0)
	}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	return copyAll(t.Writer, content, e)
}

// copyAll copies the content of e; less than its size is an error.
func copyAll(dst io.Writer, content io.Reader, e backup.Entry) error {
	if content == nil {
		return nil
	}
	n, err := io.Copy(dst, content)
	if err == nil && e.Type == "file" && n != e.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
