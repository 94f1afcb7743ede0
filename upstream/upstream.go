// Package upstream reads and writes objects on storage that nobody trusts: a
// folder, an S3 bucket, or several of them as mirrors. It knows nothing of what
// the bytes mean; package seal makes them safe to keep there.
//
// All implementations pass one suite of tests (conformance_test.go), which is
// the long form of the contract of [Bucket]. FOLDER.md is the layout of a folder.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Bucket holds objects by name. A name is a string of 1 to [MaxName] bytes, of
// any value, with "/" as separator; empty segments, "." and ".." are ordinary
// segments, and the objects "a" and "a/b" live beside each other.
//
// An S3 store takes fewer: none those that are not UTF-8, MinIO none with an
// empty segment, ".", "..", a backslash or a segment of more than 255 bytes; and
// MinIO leaves "a/b" out of its listings while there is an object "a".
//
// Every method is safe for use by many goroutines and returns when ctx ends.
// Every call has a deadline of its own: for those with a body it runs from the
// last progress, not from the start.
type Bucket interface {
	// Put stores size bytes of body as the object name; size -1 means all there
	// are. The object becomes visible whole, or not at all; it is durable when
	// Put returns nil. A body that ends early or late is an error, and nothing
	// becomes visible. A body that is an [io.Seeker] may be read again from where
	// it stood; none is read after Put has returned. After [ErrUnavailable] the
	// object may or may not be there.
	Put(ctx context.Context, name string, body io.Reader, size int64, o PutOptions) (Info, error)

	// Get reads n bytes from offset off: n < 0 means to the end, off < 0 the last
	// -off bytes (all of a shorter object). A range is cut at the end of the
	// object; one that begins at or after the end is empty. Info is that of the
	// whole object. A reader that cannot give all the bytes ends with an error
	// (io.ErrUnexpectedEOF where they just stop), never with io.EOF; it never
	// mixes an object with one that replaces it. The caller closes it.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, Info, error)

	// Head describes the object.
	Head(ctx context.Context, name string) (Info, error)

	// List calls fn for each object whose name begins with prefix and is greater
	// than after, in the order of the bytes of the names, without Meta. An
	// object that is there all the time is listed exactly once. An error of fn
	// ends the listing and is returned as it is.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error

	// Delete removes the object. That it is absent is no error. One that is locked
	// (see [Locker]) is only hidden.
	Delete(ctx context.Context, name string) error

	// Copy makes dst of the bytes of src, with the Meta of o and none of src's;
	// dst may be src. The bytes do not travel.
	Copy(ctx context.Context, dst, src string, o PutOptions) (Info, error)

	// StartMultipart begins an upload in parts; o.Meta becomes the object's. What
	// is neither completed nor aborted is removed after some days.
	StartMultipart(ctx context.Context, name string, o PutOptions) (id string, err error)

	// PutPart stores part number (1 to [MaxParts]); a part of the same number is
	// replaced. Parts may come in any order and at the same time. All but the
	// last in number have at least [MinPart] bytes: a store may refuse others.
	PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (etag string, err error)

	// CompleteMultipart joins the parts, whose numbers must ascend, and makes the
	// object visible. IfAbsent and IfMatch of o hold at this moment; its Meta is
	// not used. An upload that is not there is [ErrNotExist].
	CompleteMultipart(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error)

	// AbortMultipart forgets the upload. That it is absent is no error.
	AbortMultipart(ctx context.Context, name, id string) error

	// ListMultipart calls fn for each unfinished upload whose name begins with
	// prefix, ordered by name, so that it can be aborted.
	ListMultipart(ctx context.Context, prefix string, fn func(Upload) error) error
}

// Bounds that hold for every Bucket.
const (
	MaxName  = 1024     // bytes in a name, the prefix of an S3 bucket included
	MaxParts = 10000    // parts in an upload
	MinPart  = 5 << 20  // bytes in a part that is not the last
	MaxPut   = 5 << 30  // bytes in a Put of known size or in a part
	MaxMeta  = 2000     // bytes in the keys and values of Meta
	maxCopy  = 5 << 30  // bytes an S3 store copies in one call
	partSize = 16 << 20 // of a Put of unknown size
	tmpAge   = 24 * time.Hour
	partsAge = 7 * 24 * time.Hour
)

// Info describes an object.
type Info struct {
	Name    string
	Size    int64             // bytes
	ModTime time.Time         // when it became visible, by the clock of the storage
	ETag    string            // changes with every write; without quotes; compare, never interpret
	Meta    map[string]string // as given to Put; nil in a listing
}

// PutOptions are conditions and attributes of a write. The zero value is ready.
type PutOptions struct {
	// IfAbsent writes only where no object of that name is, else ErrExists. Of
	// several that try at once, one wins.
	IfAbsent bool

	// IfMatch writes only over an object that has this ETag, else ErrExists; an
	// object that is absent is ErrExists too.
	IfMatch string

	// Meta lies in the clear beside the object. Keys are of a-z, 0-9 and "-",
	// values of printable ASCII that neither begin nor end with a space; all
	// together at most MaxMeta bytes.
	Meta map[string]string
}

// Part names an uploaded part by its number and the ETag that PutPart gave.
type Part struct {
	Number int
	ETag   string
}

// Upload is an unfinished multipart upload.
type Upload struct {
	Name    string
	ID      string
	Started time.Time
}

// The errors that callers branch on.
var (
	// ErrNotExist means that there is no object, or no upload, of that name.
	ErrNotExist = errors.New("object does not exist")

	// ErrExists means that the condition of a write did not hold: the object is
	// there (IfAbsent), or is another one (IfMatch). Nothing was written.
	ErrExists = errors.New("object exists or has changed")

	// ErrUnavailable means that the storage did not answer, or not in time, or
	// asked to come back later. A write may have taken effect.
	ErrUnavailable = errors.New("storage is unavailable")

	// ErrFull means that the storage has no room. Nothing was written.
	ErrFull = errors.New("storage is full")

	// ErrDamaged means that the storage answered with what cannot be an object:
	// a folder's file without its tail, or fewer bytes stored than were sent.
	ErrDamaged = errors.New("object is damaged")
)

// checkName refuses what no Bucket takes.
func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("object name of %d bytes, want 1 to %d", len(name), MaxName)
	}
	return nil
}

// checkMeta refuses what some Bucket would change on its way.
func checkMeta(meta map[string]string) error {
	total := 0
	for k, v := range meta {
		total += len(k) + len(v)
		ok := k != ""
		for _, c := range []byte(k) {
			ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
		}
		for _, c := range []byte(v) {
			ok = ok && c >= ' ' && c <= '~'
		}
		if !ok || v != "" && (v[0] == ' ' || v[len(v)-1] == ' ') {
			return fmt.Errorf("metadata %q: want a-z, 0-9 and - in the key, printable ASCII in the value", k)
		}
	}
	if total > MaxMeta {
		return fmt.Errorf("metadata of %d bytes, want at most %d", total, MaxMeta)
	}
	return nil
}
