package proxy

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const maxObjectPut = 5 << 30 // bytes in one PUT or part

// guard gives a client bodyTimeout for each step of its body and of the answer.
// The deadline for reading goes when the body is through: the server then
// listens for the client to hang up, and a timeout would look like that. The
// request is a copy: the server looks at the body of its own to see whether it
// has asked for it, and would read it before a refusal otherwise.
func guard(a *answer, r *http.Request) *http.Request {
	a.extend()
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	guarded := r.WithContext(r.Context())
	guarded.Body = &guardedBody{ReadCloser: r.Body, control: a.control}
	return guarded
}

type guardedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (g *guardedBody) Read(b []byte) (int, error) {
	_ = g.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every ResponseWriter has one
	n, err := g.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) {
		_ = g.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// body is the plaintext that a request brings. It ends with io.EOF only after
// everything that the client declared about it has been found true: length,
// SHA-256, signatures of chunks, trailer, checksum and MD5.
type body struct {
	src     io.Reader
	size    int64 // declared; -1 if it is not known
	read    int64
	chunked *chunkReader // nil for a plain body
	sha     hash.Hash    // nil if no SHA-256 is declared
	shaWant []byte
	shaText string    // as the client wrote it
	md5     hash.Hash // nil if nobody wants it
	md5Want []byte
	want    wanted
	check   hash.Hash // nil: not computed
	sum     checksum  // computed, after io.EOF
	second  hash.Hash // another one that is wanted, nil if none
	err     error
}

// openBody reads what rq declares about its body. withMD5 computes the MD5 even
// if the client sent none; withSum does so for the checksum.
func (p *Proxy) openBody(rq *request, withMD5, withSum bool) (*body, error) {
	b := &body{src: rq.Body, size: rq.ContentLength}
	switch pay := rq.pay; pay.kind {
	case payloadChunks, payloadChunksTrailer, payloadUnsignedTrailer:
		size, err := strconv.ParseInt(rq.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || size < 0 {
			return nil, errMissingLength
		}
		b.size = size
		b.chunked = newChunkReader(rq.Body, pay.signer, pay.kind != payloadChunks)
		b.chunked.announced = splitList(strings.ToLower(rq.Header.Get("X-Amz-Trailer")))
		b.src = b.chunked
	case payloadHash:
		b.sha, b.shaWant, b.shaText = sha256.New(), pay.sum, pay.text
	}
	if withSum && b.size == 0 && rq.Header.Get("Content-Length") == "" && b.chunked == nil { // of an object
		return nil, errMissingLength
	}
	if b.size > maxObjectPut {
		return nil, errEntityTooLarge
	}
	var err error
	if b.md5Want, err = contentMD5(rq.Header); err != nil {
		return nil, err
	}
	if b.want, err = wantedChecksum(rq.Header); err != nil {
		return nil, err
	}
	if b.want.trailer && b.chunked == nil {
		return nil, errInvalidRequest.saying("x-amz-trailer needs a chunked body.")
	}
	if withMD5 || b.md5Want != nil {
		b.md5 = md5.New()
	}
	if withSum || b.want.value != "" || b.want.trailer {
		b.check = b.want.alg.new()
	}
	return b, nil
}

// contentMD5 is the Content-MD5 header, nil without.
func contentMD5(h http.Header) ([]byte, error) {
	if len(h.Values("Content-Md5")) == 0 {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(h.Get("Content-Md5"))
	if err != nil || len(sum) != md5.Size {
		return nil, errInvalidDigest.with("Content-MD5", h.Get("Content-Md5"))
	}
	return sum, nil
}

// Read reads plaintext and hashes it.
func (b *body) Read(buf []byte) (int, error) {
	n, err := b.fetch(buf)
	b.hash(buf[:n])
	if err == io.EOF {
		err = b.finish()
	}
	return n, err
}

// fetch reads without hashing: the caller hashes, and calls finish after io.EOF.
func (b *body) fetch(buf []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(buf)
	b.read += int64(n)
	switch {
	case b.size >= 0 && b.read > b.size && (err == nil || err == io.EOF):
		err = errIncompleteBody
	case b.read > maxObjectPut:
		err = errEntityTooLarge
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF && b.size >= 0 && b.read < b.size:
		err = errIncompleteBody
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errRequestTimeout.because(err)
	}
	if err != nil && err != io.EOF {
		b.err = fmt.Errorf("reading the body: %w", err)
		err = b.err
	}
	return n, err
}

// peek reads up to limit bytes ahead: if that is all, the size is known.
func (b *body) peek(limit int) error {
	ahead := make([]byte, limit+1)
	n, err := readFull(b.src.Read, ahead) // not io.ReadFull: a cut body must not look like a short one
	b.src = io.MultiReader(bytes.NewReader(ahead[:n]), b.src)
	switch {
	case err == io.EOF:
		b.size = int64(n)
	case err != nil:
		return fmt.Errorf("reading the body: %w", err)
	}
	return nil
}

func (b *body) hash(data []byte) {
	for _, h := range []hash.Hash{b.sha, b.md5, b.check, b.second} {
		if h != nil {
			h.Write(data)
		}
	}
}

// finish compares all that was declared; io.EOF means that it is all true.
func (b *body) finish() error {
	if b.err == nil {
		b.err = b.verify()
	}
	return b.err
}

func (b *body) verify() error {
	if b.sha != nil && subtle.ConstantTimeCompare(b.sha.Sum(nil), b.shaWant) != 1 {
		return errContentSHA256Mismatch.with("ClientComputedContentSHA256", b.shaText).with("S3ComputedContentSHA256", hex.EncodeToString(b.sha.Sum(nil)))
	}
	if b.md5Want != nil && !bytes.Equal(b.md5.Sum(nil), b.md5Want) {
		return errBadDigest.with("CalculatedDigest", base64.StdEncoding.EncodeToString(b.md5.Sum(nil))).with("ExpectedDigest", hex.EncodeToString(b.md5Want))
	}
	if b.check == nil {
		return io.EOF
	}
	b.sum = sumOf(b.want.alg, b.check)
	want := b.want.value
	if b.want.trailer {
		want = b.chunked.Trailer(strings.ToLower(b.want.alg.header()))
		if want == "" {
			return errMalformedTrailer
		}
		if _, err := parseChecksum(b.want.alg, want); err != nil {
			return errInvalidRequest.saying("Value for %s trailing header is invalid.", strings.ToLower(b.want.alg.header()))
		}
	}
	if want != "" && want != b.sum.value {
		return errBadDigest.saying("The %s you specified did not match the calculated checksum.", b.want.alg)
	}
	return io.EOF
}

// The buffers between the connection and the sealing of a long body.
const (
	pipeBuffer  = 128 << 10
	pipeBuffers = 4
)

// copyTo gives the whole body to w and hashes it at the same time: MD5 is slower
// than all the rest together. It returns nil only where Read would give io.EOF;
// what the last declared byte completes is up to the caller.
func (b *body) copyTo(w io.Writer) error {
	free := make(chan []byte, pipeBuffers)
	hashing := make(chan []byte, pipeBuffers)
	hashed := make(chan struct{})
	for range pipeBuffers {
		free <- make([]byte, pipeBuffer)
	}
	go func() {
		defer close(hashed)
		for buf := range hashing {
			b.hash(buf)
			free <- buf[:cap(buf)] // never blocks: there are only as many buffers as places
		}
	}()
	// Both goroutines only read a buffer. It is filled again by this one alone,
	// which by then has written it, and which gets it once it is hashed.
	var err error
	for err == nil {
		buf := <-free
		var n int
		n, err = readFull(b.fetch, buf)
		hashing <- buf[:n]
		if _, werr := w.Write(buf[:n]); werr != nil && (err == nil || err == io.EOF) {
			err = werr
		}
	}
	close(hashing)
	<-hashed
	if err != io.EOF {
		return err
	}
	if err = b.finish(); err == io.EOF {
		return nil
	}
	return err
}

// readFull fills buf, or ends earlier with the error of read.
func readFull(read func([]byte) (int, error), buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = read(buf[n:])
		n += m
	}
	return n, err
}

// readSmall reads and verifies a whole body of at most limit bytes.
func (p *Proxy) readSmall(rq *request, limit int64) ([]byte, error) {
	b, err := p.openBody(rq, false, false)
	if err != nil {
		return nil, err
	}
	if b.size > limit {
		return nil, errMalformedXML.saying("The body is too large.")
	}
	data, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errMalformedXML.saying("The body is too large.")
	}
	return data, nil
}
