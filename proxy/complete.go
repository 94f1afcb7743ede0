package proxy

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"coffer/seal"
	"coffer/upstream"
)

type completeRequest struct {
	XMLName xml.Name       `xml:"CompleteMultipartUpload"`
	Parts   []completePart `xml:"Part"`
}

type completePart struct {
	PartNumber int
	ETag       string
	checksumXML
}

type completeResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
	Location text
	Bucket   string
	Key      text
	ETag     string
	checksumXML
}

func (p *Proxy) completeUpload(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	if _, err := wantedChecksum(withoutCounts(rq.Header)); err != nil {
		return err
	}
	t := &target{ix: rq.ix, bucket: rq.bucket, key: rq.key, row: b}
	if t.cond, err = readWriteCondition(rq.Header); err != nil {
		return err
	}
	var in completeRequest
	if err := p.readXML(&request{Request: withoutObjectChecksum(rq.Request), pay: rq.pay}, &in); err != nil {
		return err
	}
	id := rq.query.Get("uploadId")
	unlock, err := p.locks.lock(rq.Context(), "upload "+id)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := p.completeOnce(rq, t, id, in.Parts)
	if err != nil {
		return err
	}
	if r.Version != "" {
		w.Header().Set("X-Amz-Version-Id", r.Version)
	}
	w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
	out := completeResult{
		Location: newText("http://" + rq.Host + rq.URL.EscapedPath()),
		Bucket:   rq.bucket, Key: newText(rq.key), ETag: quote(r.ETag),
	}
	if c, ok := r.checksum(); ok {
		out.checksumXML = newChecksumXML(algorithm(c.Algo), c.Value, c.Type)
	}
	return writeXML(w, http.StatusOK, out)
}

// completeOnce completes an upload, or finds that it has been completed: a client
// that lost the answer asks again. The caller holds the lock of the upload.
func (p *Proxy) completeOnce(rq *request, t *target, id string, list []completePart) (*row, error) {
	u, err := rq.ix.findUpload(rq.bucket, rq.key, id)
	if errors.Is(err, errNoSuchUpload) {
		done, derr := rq.ix.findDone(rq.bucket, rq.key, id)
		if derr != nil || done != nil {
			return done, derr
		}
	}
	if err != nil {
		return nil, err
	}
	return p.complete(rq, t, u, list)
}

// withoutCounts is h with the checksums of an object, of which a composite one
// ends with the number of the parts, as those of a body are.
func withoutCounts(h http.Header) http.Header {
	h = h.Clone()
	for _, a := range algorithms {
		if value, count, ok := strings.Cut(h.Get(a.header()), "-"); ok {
			if _, err := strconv.ParseUint(count, 10, 16); err == nil {
				h.Set(a.header(), value)
			}
		}
	}
	return h
}

// withoutObjectChecksum hides the checksum headers of a Complete: they speak of
// the object, not of the body of the request.
func withoutObjectChecksum(r *http.Request) *http.Request {
	c := r.Clone(r.Context())
	for _, a := range algorithms {
		c.Header.Del(a.header())
	}
	c.Header.Del("X-Amz-Sdk-Checksum-Algorithm")
	return c
}

// complete joins the parts that the client lists.
func (p *Proxy) complete(rq *request, t *target, u *uploadRow, list []completePart) (*row, error) {
	all, err := rq.ix.uploadParts(u.ID)
	if err != nil {
		return nil, err
	}
	parts, err := chooseParts(u, all, list)
	if err != nil {
		return nil, err
	}
	r := &row{
		Envelope: u.Envelope, Headers: u.Headers, Meta: u.Meta, Tags: u.Tags, Header: u.Header,
		PartCount: len(parts), Modified: p.now().UnixNano(), Retention: u.Retention, Hold: u.Hold,
	}
	if err := p.sumParts(r, u, parts, rq.Header); err != nil {
		return nil, err
	}
	key, err := seal.OpenObjectKey(rq.ix.keys, u.Header, "")
	if err != nil {
		return nil, err
	}
	r.Object = key.ID()
	at, err := p.place(rq.ix, t.bucket, t.key, u.Version)
	if err != nil {
		return nil, err
	}
	table := make([]seal.Part, len(parts))
	for i, part := range parts {
		table[i] = seal.Part{Number: part.Number, Size: part.Size, Salt: part.Salt, MD5: part.MD5}
		if u.Algorithm != "" { // nobody asks for those of parts that the client did not want
			table[i].Checksum, _ = base64.StdEncoding.DecodeString(part.Checksum) // it was encoded here
		}
	}
	done, err := p.completedBefore(rq, t, at, r)
	if err == nil && done == nil {
		err = p.replace(rq.Context(), t, at, r, table, func(ctx context.Context) error {
			return p.join(ctx, at, u, r, key, parts, table)
		})
		done = r
	}
	if err != nil {
		return nil, err
	}
	c := rq.ix.change()
	c.dropUpload(t.bucket, t.key, u.ID, all)
	c.set(doneKey(t.bucket, t.key, u.ID), done)
	if err := c.commit(); err != nil {
		return nil, err
	}
	return done, p.removeSpool(all)
}

// completedBefore finds the object of an upload whose Complete the upstream took
// but the index, or the client, did not hear of.
func (p *Proxy) completedBefore(rq *request, t *target, at place, r *row) (*row, error) {
	if err := p.settleKey(rq.Context(), rq.ix, t.bucket, t.key); err != nil {
		return nil, err
	}
	now, err := rq.ix.version(t.bucket, t.key, (&row{Version: at.version}).versionID())
	if err != nil || now == nil || now.Object != r.Object {
		return nil, err
	}
	return now, nil
}

// chooseParts finds the parts that the client lists among those that were stored.
func chooseParts(u *uploadRow, all []partRow, list []completePart) ([]partRow, error) {
	if len(list) == 0 || len(list) > upstream.MaxParts {
		return nil, errMalformedXML
	}
	stored := make(map[int]partRow, len(all))
	for _, part := range all {
		stored[part.Number] = part
	}
	var parts []partRow
	for i, c := range list {
		if c.PartNumber == 0 {
			return nil, errMalformedXML
		}
		if c.PartNumber < 1 {
			return nil, badArgument("PartNumber", strconv.Itoa(c.PartNumber), "PartNumber must be >= 1")
		}
		if i > 0 && c.PartNumber <= list[i-1].PartNumber {
			return nil, errInvalidPartOrder
		}
		part, ok := stored[c.PartNumber]
		if err := c.check(u, part, ok); err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	for _, part := range parts[:len(parts)-1] {
		if part.Size < upstream.MinPart {
			return nil, errEntityTooSmall
		}
	}
	return parts, nil
}

// check compares what the client says of a part with what was stored.
func (c *completePart) check(u *uploadRow, part partRow, stored bool) error {
	if c.ETag == "" {
		return errMalformedXML
	}
	bad := errInvalidPart.with("UploadId", u.ID).with("PartNumber", strconv.Itoa(c.PartNumber)).with("ETag", unquote(c.ETag))
	if !stored || unquote(c.ETag) != part.ETag {
		return bad
	}
	given := 0
	for _, a := range algorithms {
		sum := c.get(a)
		if sum == "" {
			continue
		}
		given++
		if _, err := parseChecksum(a, sum); err != nil || given > 1 {
			return badArgument("Checksum", sum, "Invalid Base64 or multiple checksums present in request")
		}
		switch {
		case u.Algorithm == "": // the part's own checksum was verified when it came
		case a != u.Algorithm:
			return errBadDigest.saying("The %s you specified for part %d did not match what we received.", strings.ToLower(string(a)), c.PartNumber)
		case sum != part.Checksum:
			return bad
		}
	}
	if given == 0 && u.Type == typeComposite {
		return errInvalidRequest.saying("The upload was created using a %s checksum. The complete request must include the checksum for each part. It was missing for part %d in the request.", strings.ToLower(string(u.Algorithm)), c.PartNumber)
	}
	return nil
}

// sumParts computes size, ETag and checksum of the object, and compares them with
// what the client expects.
func (p *Proxy) sumParts(r *row, u *uploadRow, parts []partRow, h http.Header) error {
	etag := md5.New()
	sums := make([]sized, len(parts))
	alg := parts[0].Algo // the same for all: it is the upload's
	for i, part := range parts {
		r.Size += part.Size
		etag.Write(part.MD5)
		sums[i] = sized{part.Checksum, part.Size}
	}
	r.ETag = fmt.Sprintf("%s-%d", hex.EncodeToString(etag.Sum(nil)), len(parts))
	if p.opaque {
		r.ETag = strings.TrimSuffix(p.newETag(), "1") + strconv.Itoa(len(parts))
	}
	if err := checkObjectSize(h.Get("X-Amz-Mp-Object-Size"), r.Size); err != nil {
		return err
	}
	kind := u.Type
	if kind == "" {
		kind = typeFull
	}
	if t := h.Get("X-Amz-Checksum-Type"); t != "" && !strings.EqualFold(t, kind) {
		if t = strings.ToUpper(t); t != typeFull && t != typeComposite {
			return errInvalidRequest.saying("Value for x-amz-checksum-type header is invalid.")
		}
		return errInvalidRequest.saying("The upload was created using the %s checksum mode. The complete request must use the same checksum mode.", kind)
	}
	sum, err := combine(alg, kind, sums)
	if err != nil {
		return err
	}
	if want := h.Get(alg.header()); u.Algorithm != "" && want != "" && strings.TrimSuffix(want, fmt.Sprintf("-%d", len(parts))) != sum {
		return errBadDigest.saying("The %s you specified did not match the calculated checksum.", alg)
	}
	if kind == typeComposite {
		sum = fmt.Sprintf("%s-%d", sum, len(parts))
	}
	r.Checksums = []seal.Checksum{{Type: kind, Algo: string(alg), Value: sum}}
	return nil
}

// checkObjectSize compares the size that the client expects.
func checkObjectSize(s string, size int64) error {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return errInvalidRequest.saying("Value for x-amz-mp-object-size header is invalid: '%s'", s)
	case n < 0:
		return errInvalidRequest.saying("Value for x-amz-mp-object-size header is less than zero: '%d'", n)
	case n != size:
		return errInvalidRequest.saying("The provided 'x-amz-mp-object-size' header value %d does not match what was computed: %d", size, n)
	}
	return nil
}

// join sends the footer, behind the last part if that lies in the spool, and
// makes the object visible.
func (p *Proxy) join(ctx context.Context, at place, u *uploadRow, r *row, key *seal.ObjectKey, parts []partRow, table []seal.Part) error {
	footer, err := key.Footer(table, r.record(at))
	if err != nil {
		return err
	}
	var pieces []upstream.Part
	for i, part := range parts {
		r.Sealed += table[i].Sealed()
		if part.Spool == "" {
			pieces = append(pieces, upstream.Part{Number: part.Number, ETag: part.Upstream})
		}
	}
	r.Sealed += int64(len(footer))
	last := parts[len(parts)-1]
	number, size := last.Number+1, int64(len(footer))
	body := io.Reader(bytes.NewReader(footer))
	if last.Spool != "" {
		f, err := os.Open(filepath.Join(p.spoolDir(), last.Spool))
		if err != nil {
			return fmt.Errorf("opening the spool: %w", err)
		}
		defer f.Close()
		number, size = last.Number, size+table[len(table)-1].Sealed()
		body = io.MultiReader(f, body)
	}
	etag, err := p.bucket.PutPart(ctx, at.name, u.Upstream, number, body, size)
	if err != nil {
		return err
	}
	pieces = append(pieces, upstream.Part{Number: number, ETag: etag})
	_, err = p.bucket.CompleteMultipart(ctx, at.name, u.Upstream, pieces, upstream.PutOptions{})
	return err
}
