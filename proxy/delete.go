package proxy

import (
	"bytes"
	"context"
	"encoding/xml"
	"net/http"

	"golang.org/x/sync/errgroup"

	"coffer/seal"
	"coffer/upstream"
)

const (
	maxDeletes      = 1000 // keys in one DeleteObjects
	parallelDeletes = 8
)

// deleted is what became of a name.
type deleted struct {
	version string // removed, or the marker that was made; "" if the bucket has no versions
	marker  bool   // the version is a delete marker
	made    bool   // the delete marker was made now
}

func (p *Proxy) deleteObject(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	t := &target{ix: rq.ix, bucket: rq.bucket, key: rq.key, row: b, cond: writeCondition{
		match: rq.Header.Get("If-Match"), size: rq.Header.Get("X-Amz-If-Match-Size"), modified: rq.Header.Get("X-Amz-If-Match-Last-Modified-Time"),
	}}
	d, err := p.remove(rq.Context(), t, rq.query.Get("versionId"), bypass(rq.Header))
	if err != nil {
		return err
	}
	h := w.Header()
	if d.version != "" {
		h.Set("X-Amz-Version-Id", d.version)
	}
	if d.marker {
		h.Set("X-Amz-Delete-Marker", "true")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// remove removes the version id of a name, or without one what a GET would find:
// in a versioned bucket by putting a delete marker before it.
func (p *Proxy) remove(ctx context.Context, t *target, id string, bypass bool) (deleted, error) {
	p.buckets.RLock()
	defer p.buckets.RUnlock()
	unlock, err := p.lockKey(ctx, t.bucket, t.key)
	if err != nil {
		return deleted{}, err
	}
	defer unlock()
	if t.cond != (writeCondition{}) {
		newest, err := t.ix.newest(t.bucket, t.key)
		if err != nil {
			return deleted{}, err
		}
		if newest == nil || newest.Marker {
			return deleted{}, nil
		}
		if err := t.cond.checkRemoval(newest); err != nil {
			return deleted{}, err
		}
	}
	if id == "" && t.row.Versioning != "" {
		return p.putMarker(ctx, t)
	}
	version := id
	if id == "" || id == nullVersion {
		version = ""
	} else if err := readVersionID(id); err != nil {
		return deleted{}, err
	}
	at, err := p.place(t.ix, t.bucket, t.key, version)
	if err != nil {
		return deleted{}, err
	}
	d := deleted{version: id}
	r, err := p.removeVersion(ctx, t, at, bypass)
	if r != nil {
		d.marker = r.Marker
	}
	return d, err
}

// removeVersion removes the object at a place and its row, which it returns.
func (p *Proxy) removeVersion(ctx context.Context, t *target, at place, bypass bool) (*row, error) {
	if err := p.settle(ctx, t.ix, at); err != nil {
		return nil, err
	}
	r, err := t.ix.version(t.bucket, t.key, (&row{Version: at.version}).versionID())
	if err != nil || r == nil {
		return nil, err
	}
	if err := r.mayDelete(p.now(), bypass); err != nil {
		return nil, err
	}
	return r, p.write(ctx, t.ix, at, r.Generation, true, func(ctx context.Context) error {
		return p.bucket.Delete(ctx, at.name)
	}, func(c *change) error {
		c.drop(t.bucket, t.key, r)
		return nil
	})
}

// putMarker makes a delete marker the newest version. It is an object like any
// other upstream, so a rebuilt index knows of it.
func (p *Proxy) putMarker(ctx context.Context, t *target) (deleted, error) {
	at, err := p.place(t.ix, t.bucket, t.key, t.version())
	if err != nil {
		return deleted{}, err
	}
	t.cond = writeCondition{}
	r := &row{Marker: true, Modified: p.now().UnixNano()}
	err = p.replaceLocked(ctx, t, at, r, nil, func(ctx context.Context) error {
		r.Envelope = r.Generation
		var sealed bytes.Buffer
		sw, err := seal.NewWriter(&sealed, t.ix.keys, seal.Options{Footer: true})
		if err != nil {
			return err
		}
		sw.SetRecord(r.record(at))
		if err := sw.Close(); err != nil {
			return err
		}
		r.sealedBy(sw, int64(sealed.Len()))
		meta, err := t.ix.envelope(at, r, false)
		if err != nil {
			return err
		}
		_, err = p.bucket.Put(ctx, at.name, bytes.NewReader(sealed.Bytes()), r.Sealed, upstream.PutOptions{Meta: meta})
		return err
	})
	return deleted{version: r.versionID(), marker: true, made: true}, err
}

// The bodies of DeleteObjects.
type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct {
		Key       string
		VersionID string `xml:"VersionId"`
		ETag      string
		Size      string
		Modified  string `xml:"LastModifiedTime"`
	} `xml:"Object"`
}

type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedEntry
	Errors  []deleteError `xml:"Error"`
}

type deletedEntry struct {
	Key             text
	VersionID       string `xml:"VersionId,omitempty"`
	DeleteMarker    *bool  `xml:",omitempty"` // of a bucket with versions
	MarkerVersionID string `xml:"DeleteMarkerVersionId,omitempty"`
}

type deleteError struct {
	Key       text
	VersionID string `xml:"VersionId,omitempty"`
	Code      string
	Message   string
}

// deleteObjects removes many names. Its body decides what is lost, so it must
// come with a digest of some kind; a signed hash is one.
func (p *Proxy) deleteObjects(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	want, err := wantedChecksum(rq.Header)
	if err != nil {
		return err
	}
	if rq.pay.kind == payloadUnsigned && rq.Header.Get("Content-Md5") == "" && want.value == "" {
		return errMissingDigest
	}
	var in deleteRequest
	if err := p.readXML(rq, &in); err != nil {
		return err
	}
	if len(in.Objects) > maxDeletes {
		return errMalformedXML
	}
	results := make([]deleted, len(in.Objects))
	failures := make([]*failure, len(in.Objects))
	var g errgroup.Group
	g.SetLimit(parallelDeletes)
	for i, o := range in.Objects {
		g.Go(func() error {
			t := &target{ix: rq.ix, bucket: rq.bucket, key: o.Key, row: b, cond: writeCondition{match: o.ETag, size: o.Size, modified: o.Modified}}
			var err error
			if o.Key == "" || len(o.Key) > maxKey {
				err = errKeyTooLong
			} else if err = p.permitIn(rq, rq.bucket, o.Key, withHeaders(rq.Header, policyAction("DeleteObject", o.VersionID))...); err == nil {
				results[i], err = p.remove(rq.Context(), t, o.VersionID, bypass(rq.Header))
			}
			if err != nil {
				failures[i] = p.failed(err)
			}
			return nil
		})
	}
	_ = g.Wait() // each has its own failure
	var out deleteResult
	for i, o := range in.Objects {
		if f := failures[i]; f != nil {
			out.Errors = append(out.Errors, deleteError{newText(o.Key), o.VersionID, f.code, f.message})
			continue
		}
		if in.Quiet {
			continue
		}
		d := results[i]
		entry := deletedEntry{Key: newText(o.Key), VersionID: o.VersionID}
		if d.version != "" {
			entry.DeleteMarker = &d.marker
		}
		if d.marker {
			entry.MarkerVersionID = d.version
		}
		out.Deleted = append(out.Deleted, entry)
	}
	return writeXML(w, http.StatusOK, out)
}
