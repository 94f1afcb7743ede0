package proxy

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the aws-chunked framing.
const (
	maxChunkLine = 4 << 10 // a chunk header, or a line of the trailer
	maxTrailers  = 16
	maxChunk     = 1 << 30
	minChunk     = 8 << 10 // but for the last

	signatureLength = 2 * sha256.Size // in hex
)

// chunkSigner verifies the signatures of the chunks of one body: each signs its
// bytes and the signature before it, so none can be left out or moved.
type chunkSigner struct {
	key      []byte
	date     string // as in X-Amz-Date
	scope    string
	previous string // signature before this one, hex; the first is that of the request
}

func (s *chunkSigner) sign(kind, body string) string {
	return hex.EncodeToString(hmacSHA256(s.key,
		kind+"\n"+s.date+"\n"+s.scope+"\n"+s.previous+"\n"+body))
}

// chunk verifies the signature of a chunk whose bytes have the hash sum.
func (s *chunkSigner) chunk(sum []byte, got string) error {
	want := s.sign("AWS4-HMAC-SHA256-PAYLOAD", sha256Hex("")+"\n"+hex.EncodeToString(sum))
	if !hmac.Equal([]byte(want), []byte(got)) {
		return errSignatureMismatch
	}
	s.previous = want
	return nil
}

// trailer verifies the signature of the lines of the trailer.
func (s *chunkSigner) trailer(lines, got string) error {
	want := s.sign("AWS4-HMAC-SHA256-TRAILER", sha256Hex(lines))
	if !hmac.Equal([]byte(want), []byte(got)) {
		return errSignatureMismatch
	}
	return nil
}

// chunkReader undoes the aws-chunked framing:
//
//	size-in-hex [;chunk-signature=hex] CRLF bytes CRLF ... 0 [;...] CRLF trailer CRLF
//
// It releases the bytes of a chunk before its signature is verified; whoever
// uses them must not let them take effect before it has seen io.EOF.
type chunkReader struct {
	r        *bufio.Reader
	signer   *chunkSigner // nil: chunks are not signed
	trailing bool         // a trailer follows the last chunk

	announced []string // lines of the trailer that X-Amz-Trailer names, lower case

	left    int64 // bytes left in this chunk
	count   int   // chunks that have begun
	small   int64 // size of one that must be the last, 0 if there was none
	sum     hash.Hash
	given   string // signature in the header of this chunk
	trailer map[string]string
	err     error
}

func newChunkReader(r io.Reader, signer *chunkSigner, trailing bool) *chunkReader {
	c := &chunkReader{r: bufio.NewReaderSize(r, 64<<10), signer: signer, trailing: trailing, trailer: make(map[string]string)}
	if signer != nil {
		c.sum = sha256.New()
	}
	return c
}

// Trailer returns a line of the trailer by its lower case name, after io.EOF.
func (c *chunkReader) Trailer(name string) string { return c.trailer[name] }

func (c *chunkReader) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	if c.sum != nil {
		c.sum.Write(b[:n])
	}
	if err == nil && c.left == 0 {
		err = c.endChunk()
	}
	if err != nil {
		c.err = cut(err)
	}
	return n, c.err
}

// next reads the header of a chunk; io.EOF means that the last one is through.
func (c *chunkReader) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	c.left, err = strconv.ParseInt(size, 16, 64)
	if err != nil || c.left < 0 || c.left > maxChunk || size[0] == '+' || size[0] == '-' {
		return errBadFraming
	}
	c.given = strings.TrimPrefix(extension, "chunk-signature=")
	if c.signer != nil && (c.given == extension || len(c.given) != signatureLength) {
		return errBadFraming // not the framing that the header declares
	}
	if c.left > 0 {
		return c.checkSize()
	}
	if err := c.verify(); err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	return io.EOF
}

// checkSize holds clients to S3's rule that only the last chunk is small.
func (c *chunkReader) checkSize() error {
	if c.small != 0 {
		return errInvalidChunkSize.with("Chunk", strconv.Itoa(c.count)).with("BadChunkSize", strconv.FormatInt(c.small, 10))
	}
	if c.count++; c.left < minChunk {
		c.small = c.left
	}
	return nil
}

func (c *chunkReader) verify() error {
	if c.signer == nil {
		return nil
	}
	defer c.sum.Reset()
	return c.signer.chunk(c.sum.Sum(nil), c.given)
}

func (c *chunkReader) endChunk() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	if line != "" {
		return errBadFraming
	}
	return c.verify()
}

// end reads what follows the last chunk: the trailer, its signature, and the
// empty line, which clients leave out at times where there is no trailer.
func (c *chunkReader) end() error {
	var signed strings.Builder
	signature := ""
	if _, err := c.r.Peek(1); err == io.EOF && !c.trailing {
		return nil
	}
	for range maxTrailers {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line == "" {
			if c.signer != nil && signature == "" && signed.Len() > 0 {
				return errBadFraming // the trailer is not signed
			}
			return c.checkTrailer()
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !c.trailing {
			return errMalformedTrailer
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "x-amz-trailer-signature" {
			if signature = value; len(value) != signatureLength {
				return errBadFraming
			}
			if c.signer == nil {
				continue
			}
			if err := c.signer.trailer(signed.String(), value); err != nil {
				return err
			}
			continue
		}
		if signature != "" {
			return errMalformedTrailer
		}
		c.trailer[name] = value
		signed.WriteString(name + ":" + value + "\n")
	}
	return errMalformedTrailer
}

// checkTrailer refuses a trailer that the header does not announce.
func (c *chunkReader) checkTrailer() error {
	for name := range c.trailer {
		if !slices.Contains(c.announced, name) {
			return errMalformedTrailer
		}
	}
	return nil
}

// errBadFraming is IncompleteBody in the words that S3 has for a body that is
// framed wrongly.
var errBadFraming = errIncompleteBody.saying("The request body terminated unexpectedly")

var errInvalidChunkSize = &failure{code: "InvalidChunkSizeError", status: 403, message: "Only the last chunk is allowed to have a size less than 8192 bytes"}

var errMalformedTrailer = &failure{code: "MalformedTrailerError", status: 400, message: "The request contained trailing data that was not well-formed or did not conform to our published schema."}

// line reads a line without its CRLF.
func (c *chunkReader) line() (string, error) {
	var b []byte
	for {
		part, err := c.r.ReadSlice('\n')
		b = append(b, part...)
		if len(b) > maxChunkLine {
			return "", errBadFraming
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", cut(err)
		}
	}
	line, ok := strings.CutSuffix(string(b), "\r\n")
	if !ok {
		return "", errBadFraming
	}
	return line, nil
}

// cut turns the end of the connection within a body into S3's error for it.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errBadFraming
	}
	return err
}
