package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	sigV4Algorithm = "AWS4-HMAC-SHA256"
	amzDateLayout  = "20060102T150405Z"
	maxSkew        = 15 * time.Minute
	maxExpires     = 7 * 24 * time.Hour
)

// scope is what a signing key is good for: one day, one region, one service.
type scope struct{ date, region, service string }

func (s scope) String() string {
	return s.date + "/" + s.region + "/" + s.service + "/aws4_request"
}

// signature is a parsed SigV4 authorisation, from the header or from the query.
type signature struct {
	accessKey string
	scope     scope
	signed    []string // names of the signed headers, lower case, sorted
	value     []byte   // the signature itself
	time      time.Time
	expires   time.Duration // of a presigned URL; 0 in the header form
	presigned bool
	malformed func(string, ...any) *failure // makes the errors of its form
}

// signingKey derives the key that signs for s.
func signingKey(secret string, s scope) []byte {
	key := hmacSHA256([]byte("AWS4"+secret), s.date)
	key = hmacSHA256(key, s.region)
	key = hmacSHA256(key, s.service)
	return hmacSHA256(key, "aws4_request")
}

func hmacSHA256(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
// Signature=..." and the time from X-Amz-Date or Date.
func parseAuthorization(r *http.Request) (*signature, error) {
	header := r.Header.Get("Authorization")
	kind, rest, ok := strings.Cut(header, " ")
	switch {
	case kind == "AWS":
		return nil, errUnsupportedSignature
	case !ok:
		return nil, badArgument("Authorization", header, "Authorization header is invalid -- one and only one ' ' (space) required.")
	case kind != sigV4Algorithm:
		return nil, badArgument("Authorization", kind, "Unsupported Authorization Type")
	}
	fields := make(map[string]string, 3)
	for _, field := range splitList(rest) {
		name, value, ok := strings.Cut(field, "=")
		if _, twice := fields[name]; !ok || twice {
			return nil, headerMalformed("the authorization component %q is malformed.", field)
		}
		fields[name] = value
	}
	if len(fields) != 3 {
		return nil, headerMalformed("the authorization header requires three components: Credential, SignedHeaders, and Signature.")
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return nil, headerMalformed("missing %s.", name)
		}
	}
	s, err := parseSignature(fields["Credential"], fields["SignedHeaders"], fields["Signature"], headerMalformed)
	if err != nil {
		return nil, err
	}
	if s.time, err = requestTime(r.Header); err != nil {
		return nil, errAccessDenied.saying("AWS authentication requires a valid Date or x-amz-date header.")
	}
	if day := s.time.UTC().Format("20060102"); day != s.scope.date {
		return nil, headerMalformed("Invalid credential date %q. This date is not the same as X-Amz-Date: %q.", s.scope.date, day)
	}
	return s, nil
}

func headerMalformed(format string, args ...any) *failure {
	return errAuthHeaderMalformed.saying("The authorization header is malformed; "+format, args...)
}

func queryMalformed(format string, args ...any) *failure {
	return errAuthQueryMalformed.saying("Error parsing the X-Amz-Credential parameter; "+format, args...)
}

// requestTime is when the client says that it signed.
func requestTime(h http.Header) (time.Time, error) {
	if s := h.Get("X-Amz-Date"); s != "" {
		if t, err := time.Parse(amzDateLayout, s); err == nil {
			return t, nil
		}
		return http.ParseTime(s)
	}
	return http.ParseTime(h.Get("Date"))
}

// parsePresigned reads the X-Amz-* parameters of a presigned URL.
func parsePresigned(q url.Values) (*signature, error) {
	for _, name := range []string{"Algorithm", "Credential", "Signature", "Date", "SignedHeaders", "Expires"} {
		if q.Get("X-Amz-"+name) == "" {
			return nil, errAuthQueryMalformed.saying("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	switch q.Get("X-Amz-Algorithm") {
	case sigV4Algorithm:
	case "AWS4-ECDSA-P256-SHA256":
		return nil, errAuthQueryMalformed.saying(`X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"`)
	default:
		return nil, errAuthQueryMalformed.saying(`X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"`)
	}
	s, err := parseSignature(q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature"), queryMalformed)
	if err != nil {
		return nil, err
	}
	s.presigned = true
	if s.time, err = time.Parse(amzDateLayout, q.Get("X-Amz-Date")); err != nil {
		return nil, errAuthQueryMalformed.saying(`X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd'T'HHmmss'Z'"`)
	}
	if day := s.time.Format("20060102"); day != s.scope.date {
		return nil, errAuthQueryMalformed.saying("Invalid credential date %q. This date is not the same as X-Amz-Date: %q.", s.scope.date, day)
	}
	seconds, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 64)
	switch {
	case err != nil:
		return nil, errAuthQueryMalformed.saying("X-Amz-Expires should be a number")
	case seconds < 0:
		return nil, errAuthQueryMalformed.saying("X-Amz-Expires must be non-negative")
	case seconds > int64(maxExpires/time.Second):
		return nil, errAuthQueryMalformed.saying("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	s.expires = time.Duration(seconds) * time.Second
	return s, nil
}

// parseSignature reads the three fields that both forms share.
func parseSignature(credential, signed, value string, malformed func(string, ...any) *failure) (*signature, error) {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return nil, malformed("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
	}
	s := &signature{
		accessKey: parts[0],
		scope:     scope{date: parts[1], region: parts[2], service: parts[3]},
		signed:    strings.Split(signed, ";"),
		malformed: malformed,
	}
	if parts[4] != "aws4_request" {
		return nil, malformed("incorrect terminal %q. This endpoint uses \"aws4_request\".", parts[4])
	}
	if s.scope.service != "s3" {
		return nil, malformed("incorrect service %q. This endpoint belongs to \"s3\".", s.scope.service)
	}
	if _, err := time.Parse("20060102", s.scope.date); err != nil {
		return nil, malformed("incorrect date format %q. This date in the credential must be in the format \"yyyyMMdd\".", s.scope.date)
	}
	if !slices.Contains(s.signed, "host") || !slices.IsSorted(s.signed) {
		return nil, malformed("the SignedHeaders are mal-formed; expecting host among them, sorted.")
	}
	for _, name := range s.signed {
		if name == "" || name != strings.ToLower(name) {
			return nil, malformed("the SignedHeaders are mal-formed.")
		}
	}
	var err error
	if s.value, err = hex.DecodeString(value); err != nil || len(s.value) != sha256.Size {
		return nil, errSignatureMismatch.with("AWSAccessKeyId", s.accessKey)
	}
	return s, nil
}

// checkTime refuses what was signed too long ago, or for another day.
func (s *signature) checkTime(now time.Time) error {
	if s.presigned {
		if now.Add(maxSkew).Before(s.time) {
			return errAccessDenied.saying("Request is not valid yet.")
		}
		if now.After(s.time.Add(s.expires)) {
			return errExpiredToken.with("X-Amz-Expires", strconv.FormatInt(int64(s.expires/time.Second), 10)).
				with("Expires", s.time.Add(s.expires).Format(time.RFC3339)).with("ServerTime", now.UTC().Format(time.RFC3339))
		}
		return nil
	}
	if d := now.Sub(s.time); d > maxSkew || d < -maxSkew {
		return errTimeSkewed
	}
	return nil
}

// checkHeaders refuses a request with an X-Amz- header that is not signed:
// whoever sits between could have put it there.
func (s *signature) checkHeaders(h http.Header) error {
	var missing []string
	for name := range h {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !slices.Contains(s.signed, name) && (name != "x-amz-content-sha256" || !s.presigned) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return errHeadersNotSigned.with("HeadersNotSigned", strings.Join(missing, ", "))
	}
	return nil
}

// verify reports whether r was signed with key, the signing key of its scope.
// payload is the hash that the request declares.
func (s *signature) verify(r *http.Request, key []byte, payload string) (ok bool) {
	for _, path := range canonicalPaths(r.URL) {
		request := strings.Join([]string{
			r.Method, path, canonicalQuery(r.URL.RawQuery), canonicalHeaders(r, s.signed),
			strings.Join(s.signed, ";"), payload,
		}, "\n")
		want := hmacSHA256(key, stringToSign(s.time, s.scope, request))
		ok = hmac.Equal(want, s.value) || ok
	}
	return ok
}

func stringToSign(t time.Time, s scope, request string) string {
	return sigV4Algorithm + "\n" + t.UTC().Format(amzDateLayout) + "\n" + s.String() + "\n" + sha256Hex(request)
}

// canonicalPaths are the forms of the path that the client may have signed: the
// bytes encoded as AWS says, and what came over the wire, for clients that also
// encode a slash or leave more characters as they are.
func canonicalPaths(u *url.URL) []string {
	path := u.Path
	if path == "" {
		path = "/"
	}
	canonical := awsEncode(path, false)
	if wire := u.EscapedPath(); wire != canonical && wire != "" {
		return []string{canonical, wire}
	}
	return []string{canonical}
}

// canonicalQuery sorts the parameters by name and value, without the signature.
func canonicalQuery(raw string) string {
	q, _ := url.ParseQuery(raw) // what does not parse nobody reads: serve refuses it
	var pairs [][2]string
	for name, values := range q {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, [2]string{awsEncode(name, true), awsEncode(value, true)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if c := strings.Compare(a[0], b[0]); c != 0 {
			return c
		}
		return strings.Compare(a[1], b[1])
	})
	var b strings.Builder
	for i, pair := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair[0] + "=" + pair[1])
	}
	return b.String()
}

// canonicalHeaders are the signed headers, each on a line of its own.
func canonicalHeaders(r *http.Request, signed []string) string {
	var b strings.Builder
	for _, name := range signed {
		values := r.Header.Values(name)
		switch {
		case name == "host":
			values = []string{r.Host}
		case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		case name == "transfer-encoding" && len(values) == 0:
			values = r.TransferEncoding
		}
		b.WriteString(name + ":")
		for i, v := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.Join(strings.Fields(v), " "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// awsEncode percent-encodes all but the unreserved characters of RFC 3986, and
// the slash unless all is set.
func awsEncode(s string, all bool) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '/' && !all:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(upper[c>>4])
			b.WriteByte(upper[c&15])
		}
	}
	return b.String()
}
