package proxy

import (
	"cmp"
	"encoding/xml"
	"math"
	"net/http"
	"time"
)

type listPartsResult struct {
	XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
	Bucket            string
	Key               text
	UploadID          string `xml:"UploadId"`
	Initiator         *owner
	Owner             *owner
	StorageClass      string
	PartNumberMarker  int
	NextMarker        int `xml:"NextPartNumberMarker"`
	MaxParts          int
	IsTruncated       bool
	ChecksumAlgorithm string          `xml:",omitempty"`
	ChecksumType      string          `xml:",omitempty"`
	Parts             []listPartEntry `xml:"Part"`
}

type listPartEntry struct {
	PartNumber   int
	LastModified timestamp
	ETag         string
	Size         int64
	checksumXML
}

// listParts lists the parts of an upload that were acknowledged.
func (p *Proxy) listParts(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	u, err := rq.ix.findUpload(rq.bucket, rq.key, rq.query.Get("uploadId"))
	if err != nil {
		return err
	}
	l, err := readListing(map[string][]string{"encoding-type": rq.query["encoding-type"]})
	if err != nil {
		return err
	}
	if l.max, err = readCount(rq.query, "max-parts", maxListed); err != nil {
		return err
	}
	marker := 0
	if rq.query.Get("part-number-marker") != "" {
		if marker, err = readCount(rq.query, "part-number-marker", math.MaxInt32); err != nil {
			return err
		}
	}
	parts, err := rq.ix.uploadParts(u.ID)
	if err != nil {
		return err
	}
	out := listPartsResult{
		Bucket: rq.bucket, Key: l.encode(rq.key), UploadID: u.ID, Initiator: ownerOf(rq.who), Owner: ownerOf(rq.who),
		StorageClass: (&row{Headers: u.Headers}).storageClass(), PartNumberMarker: marker, MaxParts: l.max,
		ChecksumAlgorithm: cmp.Or(string(u.Algorithm), "null"), ChecksumType: cmp.Or(u.Type, "null"), // so S3 has it
	}
	for _, part := range parts {
		if part.Number <= marker {
			continue
		}
		if len(out.Parts) == l.max {
			out.IsTruncated = true
			break
		}
		entry := listPartEntry{PartNumber: part.Number, LastModified: timestamp(time.Unix(0, part.Modified)), ETag: quote(part.ETag), Size: part.Size}
		if u.Algorithm != "" {
			entry.checksumXML = newChecksumXML(part.Algo, part.Checksum, "")
		}
		out.Parts = append(out.Parts, entry)
		out.NextMarker = part.Number
	}
	return writeXML(w, http.StatusOK, out)
}

type listUploadsResult struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          text
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      *text  `xml:",omitempty"`
	NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
	Prefix             text
	Delimiter          *text  `xml:",omitempty"`
	EncodingType       string `xml:",omitempty"`
	MaxUploads         int
	IsTruncated        bool
	Uploads            []uploadEntry `xml:"Upload"`
	CommonPrefixes     []commonPrefix
}

type uploadEntry struct {
	Key               text
	UploadID          string `xml:"UploadId"`
	Initiator         *owner
	Owner             *owner
	StorageClass      string
	Initiated         timestamp
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

// uploadMarker is the key of the upload idMarker, which belongs to keyMarker: to that
// key, to the common prefix, or if it has no uploads to the next key that has. An
// upload that has ended since is none; a list goes on behind where it was.
func (ix *index) uploadMarker(bucket string, l listing, keyMarker, idMarker string) (string, error) {
	if keyMarker == "" || idMarker == "" {
		return keyMarker, nil
	}
	first, of := "", ""
	err := ix.eachUpload(bucket, prefixKey(rowUpload, bucket, l.prefix), func(_, key string, u *uploadRow) (bool, error) {
		if key < keyMarker {
			return true, nil
		}
		if first == "" {
			first = key
		}
		if u.ID == idMarker {
			of = key
		}
		return of == "", nil
	})
	switch {
	case err != nil || of == "":
		return keyMarker, err
	case of != first && l.common(of) != keyMarker:
		return "", badArgument("upload-id-marker", idMarker, "Invalid uploadId marker")
	}
	return of, nil
}

// listUploads lists the unfinished uploads of a bucket, by key and then by id.
func (p *Proxy) listUploads(w http.ResponseWriter, rq *request) error {
	q := rq.query
	l, err := readListing(map[string][]string{
		"encoding-type": q["encoding-type"], "prefix": q["prefix"], "delimiter": q["delimiter"],
	})
	if err != nil {
		return err
	}
	if l.max, err = readCount(q, "max-uploads", maxListed); err != nil {
		return err
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	keyMarker, idMarker := q.Get("key-marker"), q.Get("upload-id-marker")
	if keyMarker != "" && idMarker != "" && !isVersionID(idMarker) {
		return badArgument("upload-id-marker", idMarker, "Invalid uploadId marker")
	}
	out := listUploadsResult{
		Bucket: rq.bucket, KeyMarker: l.encode(keyMarker), UploadIDMarker: idMarker, Prefix: l.encode(l.prefix),
		EncodingType: l.encoding, MaxUploads: l.max,
	}
	if l.delimiter != "" {
		d := l.encode(l.delimiter)
		out.Delimiter = &d
	}
	if keyMarker, err = rq.ix.uploadMarker(rq.bucket, l, keyMarker, idMarker); err != nil {
		return err
	}
	lastKey, lastID := "", ""
	err = rq.ix.eachUpload(rq.bucket, prefixKey(rowUpload, rq.bucket, l.prefix), func(_, key string, u *uploadRow) (bool, error) {
		common := l.common(key)
		switch {
		case len(key) < len(l.prefix) || key[:len(l.prefix)] != l.prefix:
			return false, nil
		case key < keyMarker, key == keyMarker && (idMarker == "" || u.ID <= idMarker), common != "" && (common == lastKey || common <= keyMarker && idMarker == ""):
			return true, nil
		case len(out.Uploads)+len(out.CommonPrefixes) == l.max:
			out.IsTruncated = l.max > 0
			return false, nil
		case common != "":
			out.CommonPrefixes = append(out.CommonPrefixes, commonPrefix{l.encode(common)})
			lastKey, lastID = common, u.ID
			return true, nil
		}
		out.Uploads = append(out.Uploads, uploadEntry{
			Key: l.encode(key), UploadID: u.ID, Initiator: ownerOf(rq.who), Owner: ownerOf(rq.who),
			StorageClass: (&row{Headers: u.Headers}).storageClass(), Initiated: timestamp(time.Unix(0, u.Started)),
			ChecksumAlgorithm: string(u.Algorithm), ChecksumType: u.Type,
		})
		lastKey, lastID = key, u.ID
		return true, nil
	})
	if err != nil {
		return err
	}
	if out.IsTruncated {
		next := l.encode(lastKey)
		out.NextKeyMarker, out.NextUploadIDMarker = &next, lastID
	}
	return writeXML(w, http.StatusOK, out)
}
