package proxy

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"coffer/seal"
)

type attributesResult struct {
	XMLName      xml.Name        `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
	ETag         string          `xml:",omitempty"`
	Checksum     *checksumXML    `xml:",omitempty"`
	ObjectParts  *objectPartsXML `xml:",omitempty"`
	StorageClass string          `xml:",omitempty"`
	ObjectSize   *int64          `xml:",omitempty"`
}

type objectPartsXML struct {
	IsTruncated bool
	MaxParts    int
	NextMarker  int       `xml:"NextPartNumberMarker"`
	Marker      int       `xml:"PartNumberMarker"`
	Parts       []partXML `xml:"Part"`
	Count       int       `xml:"PartsCount"`
}

type partXML struct {
	checksumXML
	PartNumber int
	Size       int64
}

// getAttributes answers what the x-amz-object-attributes header asks for.
func (p *Proxy) getAttributes(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	var asked []string
	for _, v := range rq.Header.Values("X-Amz-Object-Attributes") {
		asked = append(asked, splitList(v)...)
	}
	if len(asked) == 0 {
		return errInvalidRequest.saying("The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")
	}
	for _, name := range asked {
		if !slices.Contains([]string{"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}, name) {
			return badArgument("x-amz-object-attributes", name, "Invalid attribute name specified.")
		}
	}
	f, err := p.find(w.Header(), rq)
	if errors.Is(err, errMethodNotAllowed) { // a delete marker by its id
		err = errNoSuchKey
	}
	if err != nil {
		return err
	}
	var out attributesResult
	for _, name := range asked {
		switch name {
		case "ETag":
			out.ETag = f.row.ETag
		case "Checksum":
			if c, ok := f.row.checksum(); ok {
				sum := newChecksumXML(algorithm(c.Algo), c.Value, c.Type)
				out.Checksum = &sum
			}
		case "ObjectParts":
			if out.ObjectParts, err = p.objectParts(rq, f); err != nil {
				return err
			}
		case "StorageClass":
			out.StorageClass = f.row.storageClass()
		case "ObjectSize":
			out.ObjectSize = &f.row.Size
		}
	}
	w.Header().Set("Last-Modified", httpTime(f.row.modified()))
	f.tellVersion(w.Header())
	return writeXML(w, http.StatusOK, out)
}

// objectParts lists the parts of a multipart object, nil for another.
func (p *Proxy) objectParts(rq *request, f *found) (*objectPartsXML, error) {
	if f.row.PartCount == 0 {
		return nil, nil
	}
	parts, err := rq.ix.parts(f.at.bucket, f.at.key, f.row)
	if err != nil {
		return nil, err
	}
	out := &objectPartsXML{MaxParts: maxListed, Count: len(parts)}
	if s := rq.Header.Get("X-Amz-Max-Parts"); s != "" {
		if out.MaxParts, err = strconv.Atoi(s); err != nil || out.MaxParts < 0 {
			return nil, errInvalidArgument
		}
		out.MaxParts = min(out.MaxParts, maxListed)
	}
	if s := rq.Header.Get("X-Amz-Part-Number-Marker"); s != "" {
		if out.Marker, err = strconv.Atoi(s); err != nil || out.Marker < 0 {
			return nil, errInvalidArgument
		}
	}
	c, _ := f.row.checksum()
	first := slices.IndexFunc(parts, func(q seal.Part) bool { return q.Number > out.Marker })
	if first < 0 {
		return out, nil
	}
	for _, part := range parts[first:] {
		if len(out.Parts) == out.MaxParts {
			out.IsTruncated = true
			break
		}
		entry := partXML{PartNumber: part.Number, Size: part.Size}
		if c.Type == typeComposite && part.Checksum != nil {
			entry.checksumXML = newChecksumXML(algorithm(c.Algo), base64.StdEncoding.EncodeToString(part.Checksum), "")
		}
		out.Parts = append(out.Parts, entry)
		out.NextMarker = part.Number
	}
	return out, nil
}
