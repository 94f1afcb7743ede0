package proxy

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	maxFormField  = 20 << 10
	maxFormFields = 100
)

// isPostForm reports whether rq is a browser's upload form: a POST to the bucket
// without a subresource.
func isPostForm(rq *request) bool {
	return rq.Method == http.MethodPost && rq.bucket != "" && rq.key == "" && !rq.query.Has("delete")
}

// postForm stores the file of an upload form. Its policy, signed by the owner of
// an access key, says what may be uploaded.
func (p *Proxy) postForm(w http.ResponseWriter, rq *request) error {
	rq.op = &operation{name: "PostObject", write: true}
	kind, parameters, err := mime.ParseMediaType(rq.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return &failure{code: "PreconditionFailed", status: 412, message: errPreconditionFailed.message,
			fields: []field{{"Condition", "Bucket POST must be of the enclosure-type multipart/form-data"}}}
	}
	if parameters["boundary"] == "" {
		return errMalformedPOST
	}
	reader := multipart.NewReader(rq.Body, parameters["boundary"])
	form, file, err := readForm(reader)
	if err != nil {
		return err
	}
	conditions, err := p.authenticateForm(rq, form)
	if err != nil {
		return err
	}
	leave, err := p.enter(rq)
	if err != nil {
		return err
	}
	defer leave()
	if err := p.authorize(rq); err != nil {
		return err
	}
	if p.isSnapshots(rq.bucket) {
		return p.serveSnapshots(w, rq)
	}
	if err := p.room(rq); err != nil {
		return err
	}
	if rq.ix, err = p.open(rq.Context()); err != nil {
		return err
	}
	r, err := p.putFile(rq, form, file, conditions)
	if err != nil {
		return err
	}
	return p.answerForm(w, rq, form, r)
}

// readForm reads the fields up to the file, which comes last.
func readForm(reader *multipart.Reader) (form map[string]string, file *multipart.Part, err error) {
	form = make(map[string]string)
	for range maxFormFields {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, nil, badArgument("file", "", "POST requires exactly one file upload per request.")
		}
		if err != nil {
			return nil, nil, errMalformedPOST.because(err)
		}
		name := strings.ToLower(part.FormName())
		if name == "file" {
			form["file"] = part.FileName()
			return form, part, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, maxFormField+1))
		if err != nil || len(value) > maxFormField {
			return nil, nil, errMalformedPOST.because(err)
		}
		if _, twice := form[name]; !twice {
			form[name] = string(value)
		}
	}
	return nil, nil, errMalformedPOST
}

// authenticateForm checks the signature of the policy, and the fields against it.
func (p *Proxy) authenticateForm(rq *request, form map[string]string) (*policy, error) {
	missing := 0
	needed := []string{"policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"}
	for _, name := range needed {
		if form[name] == "" {
			missing++
		}
	}
	if missing == len(needed) {
		return nil, errAccessDenied
	}
	for _, name := range needed {
		if _, there := form[name]; !there || form[name] == "" && name != "policy" {
			return nil, badArgument(name, "", "Bucket POST must contain a field named '%s'.  If it is specified, please check the order of the fields.", name)
		}
	}
	if form["x-amz-algorithm"] != sigV4Algorithm {
		return nil, badArgument("X-Amz-Algorithm", form["x-amz-algorithm"], "Only AWS4-HMAC-SHA256 is supported")
	}
	s, err := parseSignature(form["x-amz-credential"], "host", form["x-amz-signature"], func(format string, args ...any) *failure {
		return badArgument("x-amz-credential", form["x-amz-credential"], format, args...)
	})
	if errors.Is(err, errSignatureMismatch) {
		return nil, formMismatch(form)
	}
	if err != nil {
		return nil, err
	}
	if s.time, err = time.Parse(amzDateLayout, form["x-amz-date"]); err != nil {
		return nil, badArgument("X-Amz-Date", form["x-amz-date"], "X-Amz-Date must be formated via ISO8601 Long format")
	}
	if err := p.verifyForm(rq, s, form); err != nil {
		return nil, err
	}
	conditions, err := parsePolicy(form["policy"])
	if err != nil {
		return nil, err
	}
	if rq.key = form["key"]; rq.key == "" {
		return nil, badArgument("key", "", "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.")
	}
	rq.key = strings.ReplaceAll(rq.key, "${filename}", path.Base("/"+form["file"]))
	if len(rq.key) > maxKey {
		return nil, errKeyTooLong
	}
	if !validKey(rq.key) {
		return nil, errBadRequest
	}
	return conditions, conditions.check(rq.bucket, form, p.now())
}

// formMismatch shows whose signature is wrong what it should sign.
func formMismatch(form map[string]string) *failure {
	accessKey, _, _ := strings.Cut(form["x-amz-credential"], "/")
	return errSignatureMismatch.with("AWSAccessKeyId", accessKey).with("StringToSign", form["policy"]).
		with("SignatureProvided", form["x-amz-signature"]).with("StringToSignBytes", fmt.Sprintf("% x", form["policy"]))
}

func (p *Proxy) verifyForm(rq *request, s *signature, form map[string]string) error {
	if s.scope.region != p.region {
		return s.malformed("the region %q is wrong; expecting %q", s.scope.region, p.region)
	}
	id := p.identity(s.accessKey)
	ok := hmac.Equal(hmacSHA256(id.signingKey(s.scope), form["policy"]), s.value)
	switch {
	case id == nil:
		return errInvalidAccessKey.with("AWSAccessKeyId", s.accessKey)
	case !ok:
		return formMismatch(form)
	case p.now().Sub(s.time) > maxExpires:
		return errAccessDenied.saying("Invalid according to Policy: Policy expired.")
	}
	rq.who = id
	return nil
}

// putFile stores the file with the attributes that the form has for it.
func (p *Proxy) putFile(rq *request, form map[string]string, file *multipart.Part, conditions *policy) (*row, error) {
	h := make(http.Header)
	for name, value := range form {
		if strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "content-") || name == "cache-control" || name == "expires" {
			h.Set(name, value)
		}
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "binary/octet-stream")
	}
	actions := withHeaders(h, "s3:PutObject")
	if form["tagging"] != "" {
		actions = append(actions, "s3:PutObjectTagging")
	}
	if err := p.permitIn(rq, rq.bucket, rq.key, actions...); err != nil {
		return nil, err
	}
	plain := &request{Request: &http.Request{Header: h}, ix: rq.ix, bucket: rq.bucket, key: rq.key}
	t, err := p.writeTarget(plain)
	if err != nil {
		return nil, err
	}
	if s := form["tagging"]; s != "" {
		var in taggingXML
		if err := parseXML([]byte(s), &in); err != nil {
			return nil, err
		}
		if t.attrs.tags, err = tagsOf(in.Tags); err == nil {
			err = checkTags(t.attrs.tags)
		}
		if err != nil {
			return nil, err
		}
	}
	want, err := wantedChecksum(h)
	if err != nil {
		return nil, err
	}
	b := p.innerBody(&policyFile{r: file, policy: conditions}, -1, want.alg)
	b.want = want
	return p.put(rq.Context(), t, b)
}

// policyFile is a file whose size the policy bounds.
type policyFile struct {
	r      io.Reader
	policy *policy
	read   int64
}

func (l *policyFile) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	l.read += int64(n)
	switch {
	case l.read > l.policy.maxSize:
		rest, _ := io.CopyN(io.Discard, l.r, maxFormField) // to name the size of a small file
		return n, errEntityTooLarge.with("ProposedSize", strconv.FormatInt(l.read+rest, 10)).with("MaxSizeAllowed", strconv.FormatInt(l.policy.maxSize, 10))
	case err == io.EOF && l.read < l.policy.minSize:
		return n, errEntityTooSmall.with("ProposedSize", strconv.FormatInt(l.read, 10)).with("MinSizeAllowed", strconv.FormatInt(l.policy.minSize, 10))
	}
	if err != nil && err != io.EOF {
		err = errMalformedPOST.because(err)
	}
	return n, err
}

type postResponse struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ PostResponse"`
	Location text
	Bucket   string
	Key      text
	ETag     string
}

func (p *Proxy) answerForm(w http.ResponseWriter, rq *request, form map[string]string, r *row) error {
	location := "http://" + rq.Host + "/" + rq.bucket + "/" + awsEncode(rq.key, false)
	h := w.Header()
	h.Set("Etag", quote(r.ETag))
	h.Set("Location", location)
	describeChecksum(h, r)
	if r.Version != "" {
		h.Set("X-Amz-Version-Id", r.Version)
	}
	if to := form["success_action_redirect"]; to != "" {
		if u, err := url.Parse(to); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			q := u.Query()
			q.Set("bucket", rq.bucket)
			q.Set("key", rq.key)
			q.Set("etag", quote(r.ETag))
			u.RawQuery = q.Encode()
			h.Set("Location", u.String())
			w.WriteHeader(http.StatusSeeOther)
			return nil
		}
	}
	switch status, _ := strconv.Atoi(form["success_action_status"]); status {
	case http.StatusCreated:
		return writeXML(w, status, postResponse{Location: newText(location), Bucket: rq.bucket, Key: newText(rq.key), ETag: quote(r.ETag)})
	case http.StatusOK:
		w.WriteHeader(status)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

func decodePolicy(document string) ([]byte, error) {
	if document == "" {
		return nil, badPolicy("Expecting '{' but found End-of-Input")
	}
	raw, err := base64.StdEncoding.DecodeString(document)
	if err != nil {
		return nil, badPolicy("invalid Base64 encoding.")
	}
	return raw, nil
}

func badPolicy(format string, args ...any) *failure {
	return &failure{code: "InvalidPolicyDocument", status: 400, message: "Invalid Policy: " + fmt.Sprintf(format, args...)}
}
