package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const maxListed = 1000 // names in one answer

// listing is a request for names: S3 has three kinds, which differ in how they
// say where to go on.
type listing struct {
	prefix    string
	delimiter string
	after     string // names up to here, and a common prefix equal to it, are left out
	max       int
	encode    func(string) text
	encoding  string
}

// listed is one page.
type listed struct {
	rows      []listedRow
	prefixes  []string
	last      string // name or common prefix that the next page comes after
	truncated bool
}

type listedRow struct {
	key string
	row *row
}

func readListing(q url.Values) (listing, error) {
	l := listing{prefix: q.Get("prefix"), delimiter: q.Get("delimiter"), max: maxListed, encoding: q.Get("encoding-type")}
	var err error
	if l.encode, err = encoder(l.encoding); err != nil {
		return l, err
	}
	l.max, err = readCount(q, "max-keys", maxListed)
	return l, err
}

// readCount reads a number of a query; absent means limit, and more is limit.
func readCount(q url.Values, name string, limit int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return limit, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	switch {
	case err != nil:
		return 0, badArgument(name, s, "Provided %s not an integer or within integer range", s)
	case n < 0:
		return 0, badArgument(name, s, "Argument %s must be an integer between 0 and 2147483647", s)
	}
	return min(int(n), limit), nil
}

// list collects one page of the current versions in a bucket.
func (ix *index) list(bucket string, l listing) (listed, error) {
	var out listed
	if l.max == 0 {
		return out, nil
	}
	within := prefixKey(rowObject, bucket, l.prefix)
	from := within
	if l.after != "" {
		from = append(nameKey(rowObject, bucket, l.after), bytes.Repeat([]byte{0xff}, 9)...) // behind all its versions
		if l.delimiter != "" && l.common(l.after) == l.after {
			from = successor(prefixKey(rowObject, bucket, l.after))
		}
	}
	for from != nil {
		next, err := ix.listFrom(bucket, l, within, from, &out)
		if err != nil {
			return out, err
		}
		from = next
	}
	return out, nil
}

// common is the common prefix that name is part of, "" if none.
func (l *listing) common(name string) string {
	rest, ok := strings.CutPrefix(name, l.prefix)
	if !ok || l.delimiter == "" {
		return ""
	}
	i := strings.Index(rest, l.delimiter)
	if i < 0 {
		return ""
	}
	return name[:len(l.prefix)+i+len(l.delimiter)]
}

// listFrom scans until the page is full or a jump saves reading: it returns where
// to go on, nil at the end.
func (ix *index) listFrom(bucket string, l listing, within, from []byte, out *listed) (next []byte, err error) {
	previous, first := "", true
	err = ix.scan(within, from, func(key []byte, value func(any) error) (bool, error) {
		name, _, err := parseNameKey(key, bucket)
		if err != nil {
			return false, err
		}
		if !first && name == previous { // an older version
			return true, nil
		}
		previous, first = name, false
		r := new(row)
		if err := value(r); err != nil {
			return false, err
		}
		if r.Marker {
			return true, nil
		}
		if len(out.rows)+len(out.prefixes) == l.max {
			out.truncated = true
			return false, nil
		}
		if common := l.common(name); common != "" {
			out.prefixes = append(out.prefixes, common)
			out.last = common
			next = successor(prefixKey(rowObject, bucket, common))
			return false, nil
		}
		out.rows = append(out.rows, listedRow{name, r})
		out.last = name
		return true, nil
	})
	return next, err
}

// The XML of the answers.
type listEntry struct {
	Key               text
	LastModified      timestamp
	ETag              string
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
	Size              int64
	Owner             *owner `xml:",omitempty"`
	StorageClass      string
}

type commonPrefix struct{ Prefix text }

type listResult struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                *text   `xml:",omitempty"` // what was asked for, as the next three
	Marker                *text   `xml:",omitempty"`
	NextMarker            *text   `xml:",omitempty"`
	ContinuationToken     *string `xml:",omitempty"`
	NextContinuationToken string  `xml:",omitempty"`
	StartAfter            *text   `xml:",omitempty"`
	KeyCount              *int    `xml:",omitempty"`
	MaxKeys               int
	Delimiter             *text  `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Contents              []listEntry
	CommonPrefixes        []commonPrefix
}

// listObjects answers the first version of ListObjects.
func (p *Proxy) listObjects(w http.ResponseWriter, rq *request) error {
	l, err := readListing(rq.query)
	if err != nil {
		return err
	}
	l.after = rq.query.Get("marker")
	page, err := p.listPage(rq, l)
	if err != nil {
		return err
	}
	result := newListResult(rq, l, page, true)
	if rq.query.Has("marker") {
		marker := l.encode(l.after)
		result.Marker = &marker
	}
	if page.truncated {
		next := l.encode(page.last)
		result.NextMarker = &next
	}
	return writeXML(w, http.StatusOK, result)
}

// newToken is the continuation token behind name: the name itself, or base64 where
// some client could spoil it.
func newToken(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.HasPrefix(name, "~") {
		return "~" + base64.URLEncoding.EncodeToString([]byte(name))
	}
	return name
}

func readToken(token string) (string, error) {
	coded, ok := strings.CutPrefix(token, "~")
	if !ok {
		return token, nil
	}
	name, err := base64.URLEncoding.DecodeString(coded)
	if err != nil {
		return "", errInvalidArgument.saying("The continuation token provided is incorrect")
	}
	return string(name), nil
}

// listObjectsV2 answers the second version.
func (p *Proxy) listObjectsV2(w http.ResponseWriter, rq *request) error {
	l, err := readListing(rq.query)
	if err != nil {
		return err
	}
	startAfter := rq.query.Get("start-after")
	l.after = startAfter
	after, err := readToken(rq.query.Get("continuation-token"))
	if err != nil {
		return err
	}
	l.after = max(l.after, after)
	page, err := p.listPage(rq, l)
	if err != nil {
		return err
	}
	result := newListResult(rq, l, page, rq.query.Get("fetch-owner") == "true")
	count := len(page.rows) + len(page.prefixes)
	result.KeyCount = &count
	if rq.query.Has("continuation-token") {
		token := rq.query.Get("continuation-token")
		result.ContinuationToken = &token
	}
	if rq.query.Has("start-after") {
		after := l.encode(startAfter)
		result.StartAfter = &after
	}
	if page.truncated {
		result.NextContinuationToken = newToken(page.last)
	}
	return writeXML(w, http.StatusOK, result)
}

// listPage collects a page from the index, or from the snapshots.
func (p *Proxy) listPage(rq *request, l listing) (listed, error) {
	if p.isSnapshots(rq.bucket) {
		return p.listSnapshots(rq.Context(), l)
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return listed{}, err
	}
	if err := p.settleAll(rq.Context(), rq.ix); err != nil {
		return listed{}, err
	}
	return rq.ix.list(rq.bucket, l)
}

func newListResult(rq *request, l listing, page listed, withOwner bool) listResult {
	result := listResult{Name: rq.bucket, MaxKeys: l.max, EncodingType: l.encoding}
	if rq.query.Has("prefix") {
		prefix := l.encode(l.prefix)
		result.Prefix = &prefix
	}
	if l.delimiter != "" {
		d := l.encode(l.delimiter)
		result.Delimiter = &d
	}
	result.IsTruncated = page.truncated
	for _, o := range page.rows {
		entry := listEntry{
			Key: l.encode(o.key), LastModified: timestamp(o.row.modified()), ETag: quote(o.row.ETag),
			Size: o.row.Size, StorageClass: o.row.storageClass(),
		}
		if c, ok := o.row.checksum(); ok {
			entry.ChecksumAlgorithm, entry.ChecksumType = c.Algo, c.Type
		}
		if withOwner {
			entry.Owner = ownerOf(rq.who)
		}
		result.Contents = append(result.Contents, entry)
	}
	for _, prefix := range page.prefixes {
		result.CommonPrefixes = append(result.CommonPrefixes, commonPrefix{l.encode(prefix)})
	}
	return result
}

func (r *row) storageClass() string {
	if c := r.Headers["x-amz-storage-class"]; c != "" {
		return c
	}
	return "STANDARD"
}
