package proxy

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"strings"
)

type versioningXML struct {
	XMLName   xml.Name `xml:"VersioningConfiguration"`
	Status    string   `xml:",omitempty"`
	MFADelete string   `xml:"MfaDelete,omitempty"`
}

func (p *Proxy) getBucketVersioning(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	return writeXML(w, http.StatusOK, versioningXML{
		XMLName: xml.Name{Space: xmlNamespace, Local: "VersioningConfiguration"}, Status: b.Versioning,
	})
}

func (p *Proxy) putBucketVersioning(w http.ResponseWriter, rq *request) error {
	var in versioningXML
	if err := p.readXML(rq, &in); err != nil {
		return err
	}
	if in.Status != "Enabled" && in.Status != "Suspended" {
		return errMalformedXML
	}
	if in.MFADelete == "Enabled" {
		return errNotImplemented.saying("MFA delete is not implemented.")
	}
	err := p.changeBucket(rq, func(b *bucketRow) error {
		if b.Lock && in.Status != "Enabled" {
			return errInvalidBucketState.saying("An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")
		}
		b.Versioning = in.Status
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

type versionEntry struct {
	XMLName      xml.Name // Version or DeleteMarker
	Key          text
	VersionID    string `xml:"VersionId"`
	IsLatest     bool
	LastModified timestamp
	ETag         string `xml:",omitempty"`
	Algorithm    string `xml:"ChecksumAlgorithm,omitempty"`
	Type         string `xml:"ChecksumType,omitempty"`
	Size         *int64 `xml:",omitempty"`
	StorageClass string `xml:",omitempty"`
	Owner        *owner
}

type listVersionsResult struct {
	XMLName             xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
	Name                string
	Prefix              text
	KeyMarker           text
	VersionIDMarker     string `xml:"VersionIdMarker"`
	NextKeyMarker       *text  `xml:",omitempty"`
	NextVersionIDMarker string `xml:"NextVersionIdMarker,omitempty"`
	MaxKeys             int
	Delimiter           *text  `xml:",omitempty"`
	EncodingType        string `xml:",omitempty"`
	IsTruncated         bool
	Versions            []versionEntry
	CommonPrefixes      []commonPrefix
}

// versionPage is one page of versions.
type versionPage struct {
	versions    []versionEntry
	prefixes    []string
	lastKey     string
	lastVersion string
	truncated   bool
}

func (p *Proxy) listVersions(w http.ResponseWriter, rq *request) error {
	if s := rq.query.Get("max-keys"); strings.HasPrefix(s, "-") {
		return badArgument("maxKeys", s, "max-keys cannot be negative")
	}
	l, err := readListing(rq.query)
	if err != nil {
		return err
	}
	l.after = rq.query.Get("key-marker")
	idMarker := rq.query.Get("version-id-marker")
	if idMarker != "" && l.after == "" {
		return errInvalidArgument.saying("A version-id marker cannot be specified without a key marker.")
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	if err := p.settleAll(rq.Context(), rq.ix); err != nil {
		return err
	}
	page, err := rq.ix.versions(rq, l, idMarker)
	if err != nil {
		return err
	}
	out := listVersionsResult{
		Name: rq.bucket, Prefix: l.encode(l.prefix), KeyMarker: l.encode(l.after), VersionIDMarker: idMarker,
		MaxKeys: l.max, EncodingType: l.encoding, IsTruncated: page.truncated, Versions: page.versions,
	}
	if l.delimiter != "" {
		d := l.encode(l.delimiter)
		out.Delimiter = &d
	}
	for _, prefix := range page.prefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, commonPrefix{l.encode(prefix)})
	}
	if page.truncated {
		next := l.encode(page.lastKey)
		out.NextKeyMarker, out.NextVersionIDMarker = &next, page.lastVersion
	}
	return writeXML(w, http.StatusOK, out)
}

// versions collects one page of all versions, the newest of a name first.
func (ix *index) versions(rq *request, l listing, idMarker string) (versionPage, error) {
	var page versionPage
	if l.max == 0 {
		return page, nil
	}
	within := prefixKey(rowObject, rq.bucket, l.prefix)
	from, skipTo := within, ""
	if l.after != "" {
		from = append(nameKey(rowObject, rq.bucket, l.after), bytes.Repeat([]byte{0xff}, 9)...)
		switch {
		case idMarker != "": // the rest of the versions of this key come first
			from, skipTo = nameKey(rowObject, rq.bucket, l.after), idMarker
		case l.common(l.after) == l.after:
			from = successor(prefixKey(rowObject, rq.bucket, l.after))
		}
	}
	previous := ""
	for from != nil {
		var next []byte
		err := ix.scan(within, from, func(key []byte, value func(any) error) (bool, error) {
			name, _, err := parseNameKey(key, rq.bucket)
			if err != nil {
				return false, err
			}
			r := new(row)
			if err := value(r); err != nil {
				return false, err
			}
			latest := name != previous
			previous = name
			if skipTo != "" && name == l.after {
				if r.versionID() == skipTo {
					skipTo = ""
				}
				return true, nil
			}
			if len(page.versions)+len(page.prefixes) == l.max {
				page.truncated = true
				return false, nil
			}
			if common := l.common(name); common != "" {
				page.prefixes = append(page.prefixes, common)
				page.lastKey, page.lastVersion = common, ""
				next = successor(prefixKey(rowObject, rq.bucket, common))
				return false, nil
			}
			page.versions = append(page.versions, newVersionEntry(rq, l, name, r, latest))
			page.lastKey, page.lastVersion = name, r.versionID()
			return true, nil
		})
		if err != nil {
			return page, err
		}
		from = next
	}
	return page, nil
}

func newVersionEntry(rq *request, l listing, name string, r *row, latest bool) versionEntry {
	e := versionEntry{
		XMLName: xml.Name{Space: xmlNamespace, Local: "Version"}, Key: l.encode(name), VersionID: r.versionID(), IsLatest: latest,
		LastModified: timestamp(r.modified()), Owner: ownerOf(rq.who),
	}
	if r.Marker {
		e.XMLName.Local = "DeleteMarker"
		return e
	}
	if c, ok := r.checksum(); ok {
		e.Algorithm, e.Type = c.Algo, c.Type
	}
	e.ETag, e.Size, e.StorageClass = quote(r.ETag), &r.Size, strings.Clone(r.storageClass())
	return e
}
