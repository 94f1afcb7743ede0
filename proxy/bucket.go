package proxy

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"coffer/upstream"
)

const maxBuckets = 10000

// bucketName is S3's rule; upstream the name is sealed, so this is for clients.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func validBucket(name string) bool {
	return bucketName.MatchString(name) && !strings.Contains(name, "..") && net.ParseIP(name) == nil
}

type listBucketsResult struct {
	XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner             *owner
	Buckets           []bucketEntry `xml:"Buckets>Bucket"`
	ContinuationToken string        `xml:",omitempty"`
	Prefix            string        `xml:",omitempty"`
}

type bucketEntry struct {
	Name         string
	CreationDate timestamp
	BucketRegion string
	BucketArn    string
}

func (p *Proxy) listBuckets(w http.ResponseWriter, rq *request) error {
	out := listBucketsResult{Owner: ownerOf(rq.who), Prefix: rq.query.Get("prefix")}
	limit, paged, err := maxBuckets, rq.query.Has("max-buckets"), error(nil)
	if s := rq.query.Get("max-buckets"); paged {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxBuckets {
			return badArgument("max-buckets", s, "Argument max-buckets must be an integer between 1 and 10000.")
		}
	}
	after := rq.query.Get("continuation-token")
	err = rq.ix.scan([]byte{rowBucket}, nil, func(key []byte, value func(any) error) (bool, error) {
		name := string(key[1:])
		if !rq.who.mayUse(name) || !strings.HasPrefix(name, out.Prefix) || after != "" && name <= after {
			return true, nil
		}
		if paged && len(out.Buckets) == limit {
			out.ContinuationToken = out.Buckets[limit-1].Name
			return false, nil
		}
		var b bucketRow
		if err := value(&b); err != nil {
			return false, err
		}
		out.Buckets = append(out.Buckets, bucketEntry{name, timestamp(time.Unix(0, b.Created)), p.region, "arn:aws:s3:::" + name})
		return true, nil
	})
	if err != nil {
		return err
	}
	if p.snaps != nil && rq.who.mayUse(snapshotsBucket) && strings.HasPrefix(snapshotsBucket, out.Prefix) && out.ContinuationToken == "" && after < snapshotsBucket {
		out.Buckets = append(out.Buckets, bucketEntry{snapshotsBucket, timestamp(time.Unix(0, 0)), p.region, "arn:aws:s3:::" + snapshotsBucket})
		slices.SortFunc(out.Buckets, func(a, b bucketEntry) int { return strings.Compare(a.Name, b.Name) })
	}
	return writeXML(w, http.StatusOK, out)
}

type createBucketRequest struct {
	XMLName            xml.Name `xml:"CreateBucketConfiguration"`
	LocationConstraint string
	Tags               []tagXML `xml:"Tags>Tag"`
}

func (p *Proxy) createBucket(w http.ResponseWriter, rq *request) error {
	if !validBucket(rq.bucket) {
		return errInvalidBucketName
	}
	body, err := p.readSmall(rq, maxXML)
	if err != nil {
		return err
	}
	var in createBucketRequest
	if len(bytes.TrimSpace(body)) > 0 {
		if err := parseXML(body, &in); err != nil {
			return err
		}
		if l := in.LocationConstraint; l != "" && (l != p.region && l != "EU" || l == "us-east-1") { // which has none
			return (&failure{code: "InvalidLocationConstraint", status: 400, message: "The specified location-constraint is not valid"}).with("LocationConstraint", l)
		}
	}
	tags, err := tagsOf(in.Tags)
	if err == nil {
		err = checkBucketTags(tags)
	}
	if err != nil {
		return err
	}
	ownership := rq.Header.Get("X-Amz-Object-Ownership")
	if ownership == "" {
		ownership = ownerEnforced
		if rq.Header.Get("X-Amz-Acl") == "private" { // who speaks of ACLs wants to have them
			ownership = "BucketOwnerPreferred"
		}
	}
	if !slices.Contains(ownerships, ownership) {
		return badArgument("x-amz-object-ownership", ownership, "Invalid x-amz-object-ownership header: %s", ownership)
	}
	b := &bucketRow{Created: p.now().UnixNano(), Owner: rq.who.key.ID, Tags: tags}
	if ownership != ownerEnforced {
		b.keep(ownershipDocument, []byte(ownership))
	}
	if acl := rq.Header.Get("X-Amz-Acl"); aclActions[acl] != nil && !hasGrants(rq.Header) && p.mayOpen(b) == nil {
		b.keep(aclDocument, []byte(acl))
	} else if err := refuseACL(rq.Header); err != nil {
		if errors.Is(err, errACLNotSupported) && ownership == ownerEnforced {
			err = &failure{code: "InvalidBucketAclWithObjectOwnership", status: 400, message: "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"}
		}
		return err
	}
	unlock, err := p.locks.lock(rq.Context(), rq.bucket)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := rq.ix.findBucket(rq.bucket); !errors.Is(err, errNoSuchBucket) {
		if err == nil {
			err = errBucketOwned
		}
		return err
	}
	if b.Lock = strings.EqualFold(rq.Header.Get("X-Amz-Bucket-Object-Lock-Enabled"), "true"); b.Lock {
		b.Versioning = "Enabled"
	}
	if err := p.keepBucket(rq.Context(), rq.ix, rq.bucket, b); err != nil {
		return err
	}
	w.Header().Set("Location", "/"+rq.bucket)
	w.Header().Set("X-Amz-Bucket-Arn", "arn:aws:s3:::"+rq.bucket)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// createBucketFor makes a bucket that is another access key's: a call of versitygw.
func (p *Proxy) createBucketFor(w http.ResponseWriter, rq *request) error {
	owner := p.identity(rq.Header.Get("X-Vgw-Owner"))
	switch {
	case rq.Header.Get("X-Vgw-Owner") == "":
		return &failure{code: "XAdminInvalidRequest", status: 400, message: "The x-vgw-owner header specifying the new bucket owner access key id is either missing or empty"}
	case owner == nil:
		return &failure{code: "XAdminUserNotFound", status: 404, message: "No user exists with the provided access key ID."}
	case !owner.mayWrite() || !owner.mayUse(rq.bucket):
		return &failure{code: "XAdminInvalidRequest", status: 400, message: "The access key of the new owner may not write to this bucket."}
	}
	rq.who = owner
	return p.createBucket(w, rq)
}

// keepBucket writes the row of a bucket, upstream and to the index. The caller
// holds the lock of the bucket.
func (p *Proxy) keepBucket(ctx context.Context, ix *index, bucket string, b *bucketRow) error {
	at, err := p.bucketPlace(ix, bucket)
	if err != nil {
		return err
	}
	if b.Generation, err = ix.next(); err != nil {
		return err
	}
	plain, err := encMode.Marshal(b)
	if err != nil {
		return fmt.Errorf("encoding a bucket: %w", err)
	}
	sealed := ix.keys.Seal(at.name, plain)
	if len(sealed) > maxBucketRow { // it would not be read again
		return errInvalidRequest.saying("The settings of the bucket are too large together.")
	}
	return p.write(ctx, ix, at, b.Generation, false, func(ctx context.Context) error {
		_, err := p.bucket.Put(ctx, at.name, bytes.NewReader(sealed), int64(len(sealed)), upstream.PutOptions{})
		return err
	}, func(c *change) error {
		c.set(bucketKey(bucket), b)
		return nil
	})
}

// bucketPlace is where the row of a bucket lies upstream.
func (p *Proxy) bucketPlace(ix *index, bucket string) (place, error) {
	folder, err := p.bucketFolder(ix.keys, bucket)
	return place{bucket: bucket, name: folder + bucketObject}, err
}

// changeBucket lets change alter the row of a bucket.
func (p *Proxy) changeBucket(rq *request, change func(*bucketRow) error) error {
	unlock, err := p.locks.lock(rq.Context(), rq.bucket)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	if err := change(b); err != nil {
		return err
	}
	return p.keepBucket(rq.Context(), rq.ix, rq.bucket, b)
}

func (p *Proxy) headBucket(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	w.Header().Set("X-Amz-Bucket-Region", p.region)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (p *Proxy) deleteBucket(w http.ResponseWriter, rq *request) error {
	p.buckets.Lock() // nothing is written while the bucket is found to be empty
	defer p.buckets.Unlock()
	unlock, err := p.locks.lock(rq.Context(), rq.bucket)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	err = rq.ix.scan(prefixKey(rowObject, rq.bucket, ""), nil, func([]byte, func(any) error) (bool, error) {
		if b.Versioning != "" {
			return false, errBucketNotEmpty.saying("The bucket you tried to delete is not empty. You must delete all versions in the bucket.")
		}
		return false, errBucketNotEmpty
	})
	if err != nil {
		return err
	}
	if err := p.abortUploads(rq.Context(), rq.ix, rq.bucket); err != nil {
		return err
	}
	at, err := p.bucketPlace(rq.ix, rq.bucket)
	if err != nil {
		return err
	}
	err = p.write(rq.Context(), rq.ix, at, b.Generation, true, func(ctx context.Context) error {
		return p.bucket.Delete(ctx, at.name)
	}, func(c *change) error {
		c.delete(bucketKey(rq.bucket))
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type locationResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
	Location string   `xml:",chardata"`
}

func (p *Proxy) getBucketLocation(w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	return p.sendLocation(w)
}

func (p *Proxy) sendLocation(w http.ResponseWriter) error {
	var out locationResult
	if p.region != "us-east-1" {
		out.Location = p.region
	}
	return writeXML(w, http.StatusOK, out)
}
