package proxy

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	xmlNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"
	maxXML       = 2 << 20 // the largest body: CompleteMultipartUpload with 10,000 parts
)

// text is character data of an answer, escaped here: encoding/xml writes U+FFFD
// for control characters, which are legal in keys; S3 writes references.
type text struct {
	Escaped string `xml:",innerxml"`
}

func newText(s string) text {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '&' || c == '<' || c == '>' || c == '"' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return text{s}
	}
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '&':
			b.WriteString("&amp;")
		case c == '<':
			b.WriteString("&lt;")
		case c == '>':
			b.WriteString("&gt;")
		case c == '"':
			b.WriteString("&quot;")
		case c < ' ' || c == 0x7f || c == 0xfffe || c == 0xffff:
			fmt.Fprintf(&b, "&#x%X;", c)
		default:
			b.WriteRune(c) // U+FFFD for what is not UTF-8: clients ask for encoding-type=url
		}
	}
	return text{b.String()}
}

// encoder writes names as the client asked for in encoding-type.
func encoder(encodingType string) (func(string) text, error) {
	switch encodingType {
	case "":
		return newText, nil
	case "url":
		return func(s string) text { return text{spaced.Replace(url.QueryEscape(s))} }, nil
	default:
		return nil, errInvalidArgument.saying("Invalid Encoding Method specified in Request")
	}
}

// spaced leaves slashes as they are, and writes a space so that every decoder reads
// it, also one that does not know of "+".
var spaced = strings.NewReplacer("%2F", "/", "+", "%20")

// timestamp is a time as S3 writes it in XML.
type timestamp time.Time

// MarshalText writes milliseconds, which S3 always has as zero: clients compare
// them with the Last-Modified header.
func (t timestamp) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().Truncate(time.Second).AppendFormat(nil, "2006-01-02T15:04:05.000Z"), nil
}

// owner is S3's element of that name.
type owner struct {
	ID          string
	DisplayName string
}

// ownerOf is who owns what id sees; nil, which is left out, for those who did not
// sign: they are told no access key.
func ownerOf(id *identity) *owner {
	if id.anonymous {
		return nil
	}
	return &owner{ID: id.key.ID, DisplayName: id.key.ID}
}

// writeXML sends v as the whole answer.
func writeXML(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := xml.NewEncoder(&b).Encode(v); err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return err
}

// readXML reads the body of a request, at most maxXML, into v. The body must be
// one element, with or without the namespace.
func (p *Proxy) readXML(rq *request, v any) error {
	data, err := p.readSmall(rq, maxXML)
	if err != nil {
		return err
	}
	return parseXML(data, v)
}

func parseXML(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errMalformedXML
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return errMalformedXML.because(err)
	}
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		switch token := token.(type) {
		case xml.Comment, xml.ProcInst:
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return errMalformedXML
			}
		default:
			return errMalformedXML
		}
	}
}

// errorBody is the answer to a request that failed.
type errorBody struct {
	XMLName    xml.Name `xml:"Error"`
	Code       string
	Message    string
	Key        *text  `xml:",omitempty"`
	BucketName string `xml:",omitempty"`
	Fields     string `xml:",innerxml"`
	Resource   text
	RequestID  string `xml:"RequestId"`
	HostID     string `xml:"HostId"`
}

// sendError tells the client what failed. When part of the answer is sent
// already, it cuts the connection instead: a client must never take the part for
// the whole.
func (p *Proxy) sendError(a *answer, rq *request, err error) *failure {
	f := p.failed(err)
	if a.status != 0 || f.status == status499 {
		a.status = status499
		if f.status >= 500 || f.code == errCorrupt.code {
			p.metrics.cut.Inc()
		}
		return f
	}
	h := a.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Range", "Accept-Ranges", "Cache-Control", "Content-Disposition"} {
		h.Del(name)
	}
	if f.status == http.StatusNotModified || rq.Method == http.MethodHead {
		if f.status != http.StatusNotModified {
			h.Set("Content-Type", "application/xml")
		}
		a.WriteHeader(f.status)
		return f
	}
	h.Del("Etag")
	h.Del("Last-Modified")
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	body := errorBody{
		Code: f.code, Message: f.message, BucketName: rq.bucket,
		Resource: newText(rq.URL.Path), RequestID: rq.id, HostID: rq.id,
	}
	for _, more := range f.fields {
		body.Fields += "<" + more.name + ">" + newText(more.value).Escaped + "</" + more.name + ">"
	}
	if rq.key != "" {
		key := newText(rq.key)
		body.Key = &key
	}
	_ = writeXML(a, f.status, body) // the client is told or gone; the error is in the log
	return f
}
