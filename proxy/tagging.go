package proxy

import (
	"encoding/xml"
	"net/http"
)

type taggingXML struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []tagXML `xml:"TagSet>Tag"`
}

type tagXML struct {
	Key   string
	Value string
}

// newTagging writes tags in the order of their names.
func newTagging(tags map[string]string) taggingXML {
	out := taggingXML{XMLName: xml.Name{Space: xmlNamespace, Local: "Tagging"}}
	for _, name := range sortedNames(tags) {
		out.Tags = append(out.Tags, tagXML{name, tags[name]})
	}
	return out
}

func (p *Proxy) readTagging(rq *request, limit func(map[string]string) error) (map[string]string, error) {
	var in taggingXML
	if err := p.readXML(rq, &in); err != nil {
		return nil, err
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	return tags, limit(tags)
}

func tagsOf(list []tagXML) (map[string]string, error) {
	tags := make(map[string]string, len(list))
	for _, tag := range list {
		if _, twice := tags[tag.Key]; twice {
			return nil, errInvalidTag.saying("Cannot provide multiple Tags with the same key").with("TagKey", tag.Key)
		}
		tags[tag.Key] = tag.Value
	}
	return tags, nil
}

func (p *Proxy) getObjectTagging(w http.ResponseWriter, rq *request) error {
	f, err := p.find(w.Header(), rq)
	if err != nil {
		return err
	}
	f.tellVersion(w.Header())
	return writeXML(w, http.StatusOK, newTagging(f.row.Tags))
}

func (p *Proxy) putObjectTagging(w http.ResponseWriter, rq *request) error {
	tags, err := p.readTagging(rq, checkTags)
	if err != nil {
		return err
	}
	return p.setTags(w, rq, tags, http.StatusOK)
}

func (p *Proxy) deleteObjectTagging(w http.ResponseWriter, rq *request) error {
	return p.setTags(w, rq, nil, http.StatusNoContent)
}

func (p *Proxy) setTags(w http.ResponseWriter, rq *request, tags map[string]string, status int) error {
	f, err := p.find(w.Header(), rq)
	if err != nil {
		return err
	}
	err = p.rewrite(rq.Context(), rq.ix, f, func(r *row) error {
		r.Tags = tags
		return nil
	})
	if err != nil {
		return err
	}
	f.tellVersion(w.Header())
	w.WriteHeader(status)
	return nil
}

func (f *found) tellVersion(h http.Header) {
	if f.versioned() {
		h.Set("X-Amz-Version-Id", f.row.versionID())
	}
}

// checkBucketTags allows what S3 allows on buckets.
func checkBucketTags(tags map[string]string) error {
	if len(tags) > 50 {
		return &failure{code: "BadRequest", status: 400, message: "Bucket tag count cannot be greater than 50"}
	}
	for name := range tags {
		if err := checkTag(name, tags[name]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Proxy) getBucketTagging(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	if len(b.Tags) == 0 {
		return errNoSuchTagSet
	}
	return writeXML(w, http.StatusOK, newTagging(b.Tags))
}

func (p *Proxy) putBucketTagging(w http.ResponseWriter, rq *request) error {
	tags, err := p.readTagging(rq, checkBucketTags)
	if err != nil {
		return err
	}
	return p.setBucketTags(w, rq, tags)
}

func (p *Proxy) deleteBucketTagging(w http.ResponseWriter, rq *request) error {
	return p.setBucketTags(w, rq, nil)
}

func (p *Proxy) setBucketTags(w http.ResponseWriter, rq *request, tags map[string]string) error {
	err := p.changeBucket(rq, func(b *bucketRow) error {
		b.Tags = tags
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
