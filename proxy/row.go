package proxy

import (
	"fmt"
	"time"

	"coffer/seal"
)

// nullVersion is the version of objects written while a bucket is not versioned.
const nullVersion = "null"

// row is what the index knows of one version of an object: all that HEAD and LIST
// answer, and what a GET needs to open the upstream object in one request.
type row struct {
	Generation uint64            `cbor:"1,keyasint"`
	Version    string            `cbor:"2,keyasint,omitempty"` // "" is the null version
	Marker     bool              `cbor:"3,keyasint,omitempty"` // a delete marker
	Size       int64             `cbor:"4,keyasint,omitempty"`
	ETag       string            `cbor:"5,keyasint,omitempty"`
	Modified   int64             `cbor:"6,keyasint,omitempty"` // ns since 1970
	Object     seal.ObjectID     `cbor:"7,keyasint,omitempty"`
	Sealed     int64             `cbor:"8,keyasint,omitempty"`  // size of the upstream object
	Header     []byte            `cbor:"9,keyasint,omitempty"`  // its object header: the sealed data key
	Salt       [32]byte          `cbor:"10,keyasint,omitempty"` // of its one part
	PartCount  int               `cbor:"11,keyasint,omitempty"` // of a multipart object; its table has a row of its own
	Envelope   uint64            `cbor:"12,keyasint,omitempty"` // generation in the envelope: that of the upload's start
	Headers    map[string]string `cbor:"13,keyasint,omitempty"`
	Meta       map[string]string `cbor:"14,keyasint,omitempty"`
	Tags       map[string]string `cbor:"15,keyasint,omitempty"`
	Checksums  []seal.Checksum   `cbor:"16,keyasint,omitempty"`
	Retention  *retention        `cbor:"17,keyasint,omitempty"`
	Hold       string            `cbor:"18,keyasint,omitempty"` // legal hold: "", ON or OFF
	Rewrapped  bool              `cbor:"19,keyasint,omitempty"` // Header is the envelope's: the object has one of an older backup key
}

// retention protects a version until a time.
type retention struct {
	Mode  string `cbor:"1,keyasint"` // GOVERNANCE or COMPLIANCE
	Until int64  `cbor:"2,keyasint"` // seconds since 1970
}

func (r *row) modified() time.Time { return time.Unix(0, r.Modified).UTC() }

// versionID is what clients see.
func (r *row) versionID() string {
	if r.Version == "" {
		return nullVersion
	}
	return r.Version
}

// checksum returns the object's checksum, if it has one.
func (r *row) checksum() (seal.Checksum, bool) {
	if len(r.Checksums) == 0 {
		return seal.Checksum{}, false
	}
	return r.Checksums[0], true
}

// maxBucketRow is how large the sealed row of a bucket may be, in bytes.
const maxBucketRow = 2 << 20

// bucketRow is what the index and the upstream know of a bucket.
type bucketRow struct {
	Created    int64             `cbor:"1,keyasint"`
	Versioning string            `cbor:"2,keyasint,omitempty"` // "", Enabled or Suspended
	Owner      string            `cbor:"3,keyasint,omitempty"` // access key that made it
	Tags       map[string]string `cbor:"4,keyasint,omitempty"`
	Documents  map[string][]byte `cbor:"5,keyasint,omitempty"` // "cors", "website": XML, "policy": JSON, as the client gave them; "publicAccessBlock": XML; "ownership", "acl": a word
	Lock       bool              `cbor:"6,keyasint,omitempty"` // object lock
	LockMode   string            `cbor:"7,keyasint,omitempty"` // default retention
	LockDays   int               `cbor:"8,keyasint,omitempty"`
	LockYears  int               `cbor:"9,keyasint,omitempty"`
	Generation uint64            `cbor:"10,keyasint,omitempty"`
}

// intent is a write that has been begun: its upstream name is looked at again if
// the index never heard how it ended.
type intent struct {
	Generation uint64 `cbor:"1,keyasint"`
	Bucket     string `cbor:"2,keyasint"`
	Key        string `cbor:"3,keyasint,omitempty"` // "" for the bucket itself
	Version    string `cbor:"4,keyasint,omitempty"`
	Delete     bool   `cbor:"5,keyasint,omitempty"`
}

func bucketKey(bucket string) []byte { return append([]byte{rowBucket}, bucket...) }

func intentKey(name string) []byte { return append([]byte{rowIntent}, name...) }

// findBucket reads the row of a bucket.
func (ix *index) findBucket(bucket string) (*bucketRow, error) {
	var b bucketRow
	found, err := ix.get(bucketKey(bucket), &b)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errNoSuchBucket
	}
	return &b, nil
}

// newest reads the newest version of a name, which may be a delete marker; nil
// if there is none.
func (ix *index) newest(bucket, key string) (*row, error) {
	var r *row
	err := ix.scan(nameKey(rowObject, bucket, key), nil, func(_ []byte, value func(any) error) (bool, error) {
		r = new(row)
		return false, value(r)
	})
	return r, err
}

// version reads one version, "null" or an id; nil if there is none.
func (ix *index) version(bucket, key, id string) (*row, error) {
	var found *row
	err := ix.scan(nameKey(rowObject, bucket, key), nil, func(_ []byte, value func(any) error) (bool, error) {
		var r row
		if err := value(&r); err != nil {
			return false, err
		}
		if r.versionID() == id {
			found = &r
		}
		return found == nil, nil
	})
	return found, err
}

// parts reads the rows that open the object of r.
func (ix *index) parts(bucket, key string, r *row) ([]seal.Part, error) {
	if r.PartCount == 0 {
		return []seal.Part{{Size: r.Size, Salt: r.Salt}}, nil
	}
	var parts []seal.Part
	found, err := ix.get(versionKey(rowParts, bucket, key, r.Generation), &parts)
	if err != nil {
		return nil, err
	}
	if !found || len(parts) != r.PartCount {
		return nil, fmt.Errorf("table of parts: %w", errIndex)
	}
	return parts, nil
}

// put adds the row r and its table of parts.
func (c *change) put(bucket, key string, r *row, parts []seal.Part) {
	c.set(versionKey(rowObject, bucket, key, r.Generation), r)
	if r.PartCount > 0 {
		c.set(versionKey(rowParts, bucket, key, r.Generation), parts)
	}
}

// drop removes the row r.
func (c *change) drop(bucket, key string, r *row) {
	c.delete(versionKey(rowObject, bucket, key, r.Generation))
	if r.PartCount > 0 {
		c.delete(versionKey(rowParts, bucket, key, r.Generation))
	}
}
