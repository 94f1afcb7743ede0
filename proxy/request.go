package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	maxKey     = 1024    // bytes in the key of an object
	maxHeaders = 8 << 10 // bytes in the headers of a request
)

// request is an authenticated request on its way through a handler.
type request struct {
	*http.Request
	id     string // x-amz-request-id
	op     *operation
	bucket string
	key    string // any bytes
	query  url.Values
	who    *identity
	pay    payload
	ix     *index
}

// answer watches what is sent, for the log, and to know whether an error can
// still be told.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	sent    int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.extend()
	n, err := a.ResponseWriter.Write(b)
	a.sent += int64(n)
	return n, err
}

// extend gives the client bodyTimeout from now to take more of the answer.
func (a *answer) extend() {
	_ = a.control.SetWriteDeadline(time.Now().Add(bodyTimeout)) // not every ResponseWriter has one
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// ServeHTTP answers one S3 request. It panics with [http.ErrAbortHandler] to cut
// the connection when something fails after the first byte of an answer.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.life.RLock()
	defer p.life.RUnlock()
	start := p.now()
	continueEmpty(w, r)
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w)}
	rq := &request{Request: r, id: newRequestID(), query: r.URL.Query(), op: unknownOperation}
	h := w.Header()
	h.Set("X-Amz-Request-Id", rq.id)
	h.Set("X-Amz-Id-2", rq.id)
	h.Set("Server", "coffer")
	p.metrics.running.Inc()
	defer p.metrics.running.Dec()
	rq.Request = guard(a, r)
	err := p.serve(a, rq)
	if err != nil {
		err = p.sendError(a, rq, err)
	}
	p.account(a, rq, p.now().Sub(start), err)
	if err != nil && a.status == status499 {
		panic(http.ErrAbortHandler)
	}
}

// continueEmpty tells a client that waits before it sends an empty body to go on,
// which the server, having nothing to read, does not. Without it botocore takes
// the final answer for an early one, and reads the next answer on the same
// connection without its status line: it then waits a minute for the rest.
func continueEmpty(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 && r.ProtoMajor == 1 && r.ProtoMinor > 0 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		w.WriteHeader(http.StatusContinue)
	}
}

func newRequestID() string {
	var b [8]byte
	rand.Read(b[:])
	return strings.ToUpper(hex.EncodeToString(b[:]))
}

func (p *Proxy) serve(w http.ResponseWriter, rq *request) error {
	if size := headerSize(rq.Header); size > maxHeaders {
		return errHeadersTooLarge.with("MaxSizeAllowed", strconv.Itoa(maxHeaders))
	}
	var err error
	if rq.bucket, rq.key, err = p.target(rq.Request); err != nil {
		return err
	}
	site, isWebsite := p.isWebsite(rq)
	if isWebsite {
		rq.bucket = site
	}
	if rq.Method == http.MethodOptions {
		return p.preflight(w, rq)
	}
	if isWebsite {
		return p.serveWebsite(w, rq)
	}
	if _, err := url.ParseQuery(rq.URL.RawQuery); err != nil { // a part of it would be as if it were not there
		return errInvalidURI.because(err)
	}
	if source := rq.Header.Get("X-Amz-Copy-Source"); source != "" && rq.Method != http.MethodPut {
		return badArgument("x-amz-copy-source", source, "You can only specify a copy source header for copy requests.")
	}
	if isPostForm(rq) {
		return p.postForm(w, rq)
	}
	if rq.op, err = route(rq); err != nil {
		return err
	}
	if rq.who, rq.pay, err = p.authenticate(rq.Request, rq.query); err != nil {
		return err
	}
	if err := p.authorize(rq); err != nil {
		return err
	}
	if rq.pay.kind >= payloadChunks && rq.op.name != "PutObject" && rq.op.name != "UploadPart" {
		return errInvalidRequest.saying("The value of x-amz-content-sha256 header is invalid.")
	}
	leave, err := p.enter(rq)
	if err != nil {
		return err
	}
	defer leave()
	if err := p.room(rq); err != nil {
		return err
	}
	if rq.ix, err = p.open(rq.Context()); err != nil {
		return err
	}
	if rq.bucket != "" && !p.isSnapshots(rq.bucket) {
		p.allowOrigin(w, rq)
	}
	if p.isSnapshots(rq.bucket) {
		if rq.who.anonymous {
			return errAccessDenied
		}
		return p.serveSnapshots(w, rq)
	}
	if err := p.permit(rq); err != nil {
		return err
	}
	return rq.op.handle(p, w, rq)
}

// headerSize is about what the headers of a request take on the wire, in bytes.
func headerSize(h http.Header) int {
	size := 0
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	return size
}

// authorize holds a request to the rights of its access key.
func (p *Proxy) authorize(rq *request) error {
	if !rq.who.anonymous && (rq.bucket != "" && !rq.who.mayUse(rq.bucket) || rq.op.write && !rq.who.mayWrite()) {
		return errAccessDenied
	}
	if expected := rq.Header.Get("X-Amz-Expected-Bucket-Owner"); expected != "" && (rq.who.anonymous || p.identity(expected) == nil) {
		return errAccessDenied // every key is of the one owner, and who did not sign learns of none
	}
	return nil
}

// target finds the bucket and the key, in the path or with the bucket in the
// host name.
func (p *Proxy) target(r *http.Request) (bucket, key string, err error) {
	u := p.pathStyle(r)
	path := strings.TrimPrefix(u.Path, "/")
	bucket, key, _ = strings.Cut(path, "/")
	if len(key) > maxKey {
		return "", "", errKeyTooLong
	}
	if bucket == "" && key != "" {
		return "", "", errInvalidBucketName
	}
	if !validKey(key) {
		return "", "", errBadRequest
	}
	return bucket, key, nil
}

// validKey reports whether S3 takes a key: read as a path from left to right it must
// not leave the bucket by "..", and it must have more in it than "/" and ".".
func validKey(key string) bool {
	depth, named := 0, key == ""
	for segment := range strings.SplitSeq(key, "/") {
		switch segment {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			depth++
			named = true
		}
	}
	return named
}

// pathStyle is the URL of r with the bucket in the path.
func (p *Proxy) pathStyle(r *http.Request) *url.URL {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(host)
	for _, domain := range p.domains {
		bucket, ok := strings.CutSuffix(host, "."+domain)
		if !ok || bucket == "" {
			continue
		}
		u := *r.URL
		u.Path = "/" + bucket + u.Path
		if u.RawPath != "" {
			u.RawPath = "/" + bucket + u.RawPath
		}
		return &u
	}
	return r.URL
}

// account counts and logs an answer. Names stay out of the log above Debug.
func (p *Proxy) account(a *answer, rq *request, took time.Duration, err error) {
	status := a.status
	if status == 0 {
		status = http.StatusOK
	}
	p.metrics.request(rq.op.name, status, took)
	level := zap.InfoLevel
	if status >= 500 {
		level = zap.WarnLevel
	}
	fields := []zap.Field{
		zap.String("id", rq.id), zap.String("operation", rq.op.name), zap.Int("status", status),
		zap.Int64("sent", a.sent), zap.Duration("took", took),
	}
	if rq.who != nil && !rq.who.anonymous {
		fields = append(fields, zap.String("access_key", rq.who.key.ID))
	}
	var f *failure
	if errors.As(err, &f) {
		fields = append(fields, zap.String("code", f.code))
		if f.cause != nil && status >= 500 || f.code == errCorrupt.code {
			fields = append(fields, zap.Error(err), zap.String("bucket", rq.bucket), zap.String("key", rq.key))
		}
	}
	p.log.Check(level, "request").Write(fields...)
}
