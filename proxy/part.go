package proxy

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"coffer/internal/durable"
	"coffer/seal"
	"coffer/upstream"
)

// partNumber reads the number of a part.
func partNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > upstream.MaxParts {
		return 0, badArgument("partNumber", s, "Part number must be an integer between 1 and 10000, inclusive.")
	}
	return n, nil
}

// uploadPart stores one part, whatever others of the same number there are or
// come at the same time: each attempt is sealed under a salt of its own, and the
// last to be finished counts.
func (p *Proxy) uploadPart(w http.ResponseWriter, rq *request) error {
	if rq.Header.Get("X-Amz-Copy-Source") != "" {
		return p.uploadPartCopy(w, rq)
	}
	if err := refuseForeignEncryption(rq.Header); err != nil {
		return err
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	number, err := partNumber(rq.query.Get("partNumber"))
	if err != nil {
		return err
	}
	u, err := rq.ix.findUpload(rq.bucket, rq.key, rq.query.Get("uploadId"))
	if err != nil {
		return err
	}
	b, err := p.openBody(rq, !p.opaque, true)
	if err != nil {
		return err
	}
	if err := u.chooseChecksum(b); err != nil {
		return err
	}
	part, err := p.storePart(rq, u, number, b)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Etag", quote(part.ETag))
	h.Set(b.want.alg.header(), b.sum.value)
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// chooseChecksum makes b compute what the upload was begun with. A part without
// a declaration follows the upload.
func (u *uploadRow) chooseChecksum(b *body) error {
	switch {
	case u.Algorithm == "" && b.want.alg != algCRC64NVME:
		b.second = algCRC64NVME.new() // of the object; the client's is only of the part
	case u.Algorithm == "" || u.Algorithm == b.want.alg && b.want.declared:
	case b.want.declared:
		return errInvalidRequest.saying("Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s", u.Algorithm, b.want.alg)
	case u.Type == typeComposite:
		return errInvalidRequest.saying("Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: null", u.Algorithm)
	default:
		b.want.alg = u.Algorithm
		b.check = u.Algorithm.new()
	}
	return nil
}

// storePart seals a part and keeps it, durably: a small one in the spool, as an
// upstream takes small parts only at the end; so that the footer has room behind
// it, the last possible number as well.
func (p *Proxy) storePart(rq *request, u *uploadRow, number int, b *body) (*partRow, error) {
	if b.size < 0 {
		return nil, errMissingLength
	}
	key, err := seal.OpenObjectKey(rq.ix.keys, u.Header, "")
	if err != nil {
		return nil, err
	}
	part := &partRow{Number: number}
	if b.size < upstream.MinPart || number == upstream.MaxParts {
		err = p.spoolPart(rq, u, key, b, part)
	} else {
		err = p.streamPart(rq, u, key, b, part)
	}
	return part, err
}

// describe takes what the part turned out to be into its row.
func (p *Proxy) describePart(part *partRow, b *body, w *seal.PartWriter) {
	part.Size, part.Salt = b.read, w.Part().Salt
	part.ETag = p.newETag()
	if b.md5 != nil {
		part.MD5 = b.md5.Sum(nil)
		if !p.opaque {
			part.ETag = hex.EncodeToString(part.MD5)
		}
	}
	part.Algo, part.Checksum = b.want.alg, b.sum.value
	if b.second != nil {
		part.Algo, part.Checksum = algCRC64NVME, sumOf(algCRC64NVME, b.second).value
	}
	part.Modified = p.now().UnixNano()
}

// streamPart sends a part to the upstream while it comes. Its last chunk waits
// for the checksums and then for the lock of the part: what the upstream
// finishes last and what the index keeps last must be the same attempt.
func (p *Proxy) streamPart(rq *request, u *uploadRow, key *seal.ObjectKey, b *body, part *partRow) error {
	ctx := rq.Context()
	at, err := p.place(rq.ix, rq.bucket, rq.key, u.Version)
	if err != nil {
		return err
	}
	up := feedUpstream(func(body io.Reader) error {
		var err error
		part.Upstream, err = p.bucket.PutPart(ctx, at.name, u.Upstream, part.Number, body, seal.SealedSize(b.size))
		return err
	})
	pw, err := key.NewPartWriter(up, part.Number)
	if err == nil {
		err = b.copyTo(pw)
	}
	if err != nil {
		return up.abort(err)
	}
	p.describePart(part, b, pw)
	unlock, err := p.locks.lock(ctx, fmt.Sprintf("part %s %d", u.ID, part.Number))
	if err != nil {
		return up.abort(err)
	}
	defer unlock()
	if err := pw.Close(); err != nil {
		return up.abort(err)
	}
	if err := up.close(); err != nil {
		return err
	}
	return p.keepPart(ctx, rq, u, part)
}

// spoolPart seals a part into a file.
func (p *Proxy) spoolPart(rq *request, u *uploadRow, key *seal.ObjectKey, b *body, part *partRow) error {
	part.Spool = fmt.Sprintf("%s-%d-%s", u.ID, part.Number, newVersion())
	path := filepath.Join(p.spoolDir(), part.Spool)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("spooling a part: %w", err)
	}
	err = p.sealPart(f, key, b, part)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = durable.SyncDir(p.spoolDir())
	}
	if err == nil {
		err = p.keepPart(rq.Context(), rq, u, part)
	}
	if err != nil {
		_ = os.Remove(path) // what is left is tidied later
	}
	return err
}

func (p *Proxy) sealPart(w io.Writer, key *seal.ObjectKey, b *body, part *partRow) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	pw, err := key.NewPartWriter(buffered, part.Number)
	if err != nil {
		return err
	}
	if err := b.copyTo(pw); err != nil {
		return err
	}
	p.describePart(part, b, pw)
	if err := pw.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// keepPart commits the row of a part, unless the upload has ended meanwhile, and
// removes the file of the attempt that it replaces.
func (p *Proxy) keepPart(ctx context.Context, rq *request, u *uploadRow, part *partRow) error {
	unlock, err := p.locks.lock(ctx, "upload "+u.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := rq.ix.findUpload(rq.bucket, rq.key, u.ID); err != nil {
		return err
	}
	var old partRow
	found, err := rq.ix.get(partKey(u.ID, part.Number), &old)
	if err != nil {
		return err
	}
	c := rq.ix.change()
	c.set(partKey(u.ID, part.Number), part)
	if err := c.commit(); err != nil {
		return err
	}
	if found {
		_ = p.removeSpool([]partRow{old}) // what is left is removed with the upload
	}
	return nil
}
