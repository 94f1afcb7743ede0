package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
)

// fromSnapshot sets the headers of what comes out of a snapshot: it is a file to
// keep, whatever it says it is.
func fromSnapshot(h http.Header, name, mime string) {
	h.Set("Content-Security-Policy", sandboxCSP)
	h.Set("Content-Type", mime)
	h.Set("Content-Disposition", attachment(name))
	h.Set("Cache-Control", "private, no-store")
}

// attachment names a file for saving (RFC 6266): in ASCII, and exactly for those
// who read the other form.
func attachment(name string) string {
	name = strings.Map(func(c rune) rune {
		if c == '/' || c == '\\' {
			return '_'
		}
		return c
	}, printable(name))
	if name == "" {
		name = "file"
	}
	plain := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '"' || c == '%' {
			return '_'
		}
		return c
	}, name)
	return fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, plain, strings.ReplaceAll(url.QueryEscape(name), "+", "%20"))
}

// downloadFile sends a file; ranges too, so that a cut download goes on.
func (w *Web) downloadFile(rw http.ResponseWriter, r *http.Request) {
	w.send(rw, r, func(*place) string { return "application/octet-stream" })
}

// image sends a picture for the preview. Nothing else is sent with a type that a
// browser would show.
func (w *Web) image(rw http.ResponseWriter, r *http.Request) {
	w.send(rw, r, func(p *place) string {
		head, err := p.head(r.Context())
		if err != nil || p.entry.Size > maxImage {
			return ""
		}
		return imageType(head)
	})
}

func (w *Web) send(rw http.ResponseWriter, r *http.Request, mime func(*place) string) {
	ctx, cancel := context.WithTimeout(r.Context(), repoTimeout)
	defer cancel()
	p, ok := w.find(ctx, rw, r)
	if !ok {
		return
	}
	if p.entry.Type != "file" || p.entry.Missing {
		w.fail(rw, r, http.StatusNotFound, "There is nothing to download: it is no file, or could not be read when it was backed up.")
		return
	}
	kind := mime(&p)
	if kind == "" {
		w.fail(rw, r, http.StatusUnsupportedMediaType, "There is no preview of this file.")
		return
	}
	w.log.Debug("web: file", zap.String("snapshot", p.snapshot.ID), zap.String("path", p.path))
	content := &reader{ctx: r.Context(), p: p}
	defer content.Close()
	fromSnapshot(rw.Header(), p.entry.Name, kind)
	out := &deadlined{ResponseWriter: rw, c: http.NewResponseController(rw)}
	http.ServeContent(out, r, "", p.entry.ModTime, content)
	if content.err != nil {
		w.log.Warn("web: a download broke off", zap.String("snapshot", p.snapshot.ID), zap.NamedError("error", withoutName(content.err)))
		panic(http.ErrAbortHandler) // so that the browser does not take a part for the whole
	}
}

// withoutName is the cause of an error of the repository: what wraps it begins
// with the name of the file, which is not for the log.
func withoutName(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

// sendTimeout is for a part of a download: a browser that is paused for longer
// asks again for the rest.
const sendTimeout = 2 * time.Minute

// deadlined gives each write its own time, so that a long download may take long.
type deadlined struct {
	http.ResponseWriter
	c *http.ResponseController
}

func (d *deadlined) Write(b []byte) (int, error) {
	if err := d.c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return d.ResponseWriter.Write(b)
}

// reader is a file of a snapshot that can be read from any place on.
type reader struct {
	ctx context.Context
	p   place
	off int64
	src io.ReadCloser // at off; nil: not opened
	err error         // what broke it off
}

func (f *reader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += f.p.entry.Size
	}
	if off < 0 {
		return 0, errors.New("before the beginning")
	}
	if off != f.off {
		f.Close()
		f.src, f.off = nil, off
	}
	return off, nil
}

func (f *reader) Read(b []byte) (int, error) {
	if f.src == nil {
		src, err := f.p.repo.ReadFile(f.ctx, f.p.snapshot, f.p.path, f.off, -1)
		if err != nil {
			f.err = err
			return 0, err
		}
		f.src = src
	}
	n, err := f.src.Read(b)
	f.off += int64(n)
	if errors.Is(err, io.EOF) && f.off < f.p.entry.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// Close may be called again.
func (f *reader) Close() error {
	if f.src == nil {
		return nil
	}
	return f.src.Close()
}
