package proxy

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	policyDocument = "policy" // JSON as the client gave it
	blockDocument  = "publicAccessBlock"
)

// actionNames are those operations whose action in a policy has another name than
// "s3:" and the operation; of objects also with the version's.
var actionNames = map[string]string{
	"HeadBucket": "ListBucket", "ListObjects": "ListBucket", "ListObjectsV2": "ListBucket", "ListObjectVersions": "ListBucketVersions",
	"ListMultipartUploads": "ListBucketMultipartUploads", "ListParts": "ListMultipartUploadParts", "HeadObject": "GetObject",
	"CreateMultipartUpload": "PutObject", "UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject", "PostObject": "PutObject",
	"GetBucketCors": "GetBucketCORS", "PutBucketCors": "PutBucketCORS", "DeleteBucketCors": "PutBucketCORS",
	"DeleteBucketTagging": "PutBucketTagging", "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
	"GetObjectLockConfiguration": "GetBucketObjectLockConfiguration", "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
	"GetBucketEncryption": "GetEncryptionConfiguration", "PutBucketEncryption": "PutEncryptionConfiguration",
	"DeleteBucketEncryption": "PutEncryptionConfiguration", "GetBucketLifecycle": "GetLifecycleConfiguration",
	"DeleteBucketLifecycle": "PutLifecycleConfiguration", "GetBucketReplication": "GetReplicationConfiguration",
	"DeleteBucketReplication": "PutReplicationConfiguration", "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
	"GetBucketNotificationConfiguration": "GetBucketNotification", "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
	"PutPublicAccessBlock": "PutBucketPublicAccessBlock", "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
}

// versionActions have an action of their own for a version that is named.
var versionActions = map[string]string{
	"GetObject": "GetObjectVersion", "DeleteObject": "DeleteObjectVersion", "GetObjectAttributes": "GetObjectVersionAttributes",
	"GetObjectTagging": "GetObjectVersionTagging", "PutObjectTagging": "PutObjectVersionTagging", "DeleteObjectTagging": "DeleteObjectVersionTagging",
	"GetObjectAcl": "GetObjectVersionAcl", "PutObjectAcl": "PutObjectVersionAcl",
}

// headerActions are what headers of a write ask for beside it.
var headerActions = []struct{ header, action string }{
	{"X-Amz-Bypass-Governance-Retention", "BypassGovernanceRetention"},
	{"X-Amz-Object-Lock-Legal-Hold", "PutObjectLegalHold"},
	{"X-Amz-Object-Lock-Mode", "PutObjectRetention"},
	{"X-Amz-Tagging", "PutObjectTagging"},
}

// policyAction is the action of an operation; version is the id that is named.
func policyAction(operation, version string) string {
	name := cmp.Or(actionNames[operation], operation)
	if v := versionActions[name]; v != "" && version != "" {
		name = v
	}
	return "s3:" + name
}

// signedOnly are operations that S3 lets nobody do unsigned, with its words.
var signedOnly = map[string]*failure{
	"ListBuckets":                   errAccessDenied,
	"DeleteObjects":                 errAccessDenied,
	"UploadPartCopy":                errAccessDenied,
	"CreateBucket":                  errAnonymous,
	"PutBucketAcl":                  errAnonymous,
	"PutObjectAcl":                  errAnonymous,
	"SelectObjectContent":           errAnonymous,
	"CreateMultipartUpload":         errAccessDenied.saying("Anonymous users cannot initiate multipart uploads. Please authenticate."),
	"CopyObject":                    errAccessDenied.saying("Anonymous users cannot copy objects. Please authenticate."),
	"GetBucketOwnershipControls":    errAccessDenied.saying("s3:GetBucketOwnershipControls does not support Anonymous requests!"),
	"PutBucketOwnershipControls":    errAccessDenied.saying("s3:PutBucketOwnershipControls does not support Anonymous requests!"),
	"DeleteBucketOwnershipControls": errAccessDenied.saying("s3:PutBucketOwnershipControls does not support Anonymous requests!"),
}

// aclActions are what the public ACLs of a bucket allow in it to everybody. Objects
// have no ACL of their own: they have that of the bucket.
var aclActions = map[string][]string{
	"public-read": {"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "s3:GetObject", "s3:GetObjectAttributes"},
	"public-read-write": {
		"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "s3:GetObject", "s3:GetObjectAttributes", "s3:PutObject", "s3:DeleteObject",
	},
}

// anonymous is who sends a request that nobody signed.
func (p *Proxy) anonymous(r *http.Request) (*identity, payload, error) {
	if !p.public {
		return nil, payload{}, errAccessDenied
	}
	declared := cmp.Or(r.Header.Get("X-Amz-Content-Sha256"), unsignedPayload)
	pay, err := parsePayload(declared)
	switch {
	case err != nil: // no hash at all: S3 compares it all the same
		pay = payload{kind: payloadHash, text: declared}
	case pay.kind == payloadChunks || pay.kind == payloadChunksTrailer:
		return nil, payload{}, errInvalidRequest.saying("Anonymous requests don't support this x-amz-content-sha256 value. Please use UNSIGNED-PAYLOAD or STREAMING-UNSIGNED-PAYLOAD-TRAILER.")
	}
	return &identity{anonymous: true}, pay, nil
}

// permit holds a request to the policy of its bucket, and one that nobody signed
// to what the bucket allows to everybody.
func (p *Proxy) permit(rq *request) error {
	operation := rq.op.name
	if rq.Header.Get("X-Amz-Copy-Source") != "" {
		operation = cmp.Or(map[string]string{"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}[operation], operation)
	}
	if f := signedOnly[operation]; f != nil && rq.who.anonymous {
		return f
	}
	if rq.bucket == "" || operation == "CreateBucket" || operation == "DeleteObjects" { // which asks for each of them
		return nil
	}
	if rq.who.anonymous && policyAction(operation, "") == "s3:GetObject" {
		for name := range overrides {
			if rq.query.Has(name) {
				return errInvalidRequest.saying("Request specific response headers cannot be used for anonymous GET requests.")
			}
		}
	}
	return p.permitIn(rq, rq.bucket, rq.key, withHeaders(rq.Header, policyAction(rq.op.name, rq.query.Get("versionId")))...)
}

// withHeaders is action and those that the headers of a request add to it.
func withHeaders(h http.Header, action string) []string {
	actions := []string{action}
	for _, a := range headerActions {
		if h.Get(a.header) != "" {
			actions = append(actions, "s3:"+a.action)
		}
	}
	return actions
}

// permitIn does so for actions on a key, "" for the bucket. A bucket that is not
// there is the concern of the operation.
func (p *Proxy) permitIn(rq *request, bucket, key string, actions ...string) error {
	b, err := rq.ix.findBucket(bucket)
	if err != nil {
		if rq.who.anonymous {
			return errAccessDenied
		}
		return nil
	}
	raw := b.Documents[policyDocument]
	if !rq.who.anonymous && raw == nil {
		return nil
	}
	var policy bucketPolicy
	if raw != nil {
		if policy, err = parseBucketPolicy(raw, bucket, nil); err != nil { // it was parsed when it came, by another version maybe
			if !rq.who.anonymous && strings.HasSuffix(actions[0], "BucketPolicy") && p.rulesPolicy(rq.who, bucket, b) {
				return nil
			}
			return errAccessDenied.because(err)
		}
	}
	q := policyQuestion{resource: bucket, facts: policyFacts(rq)}
	if key != "" {
		q.resource += "/" + key
	}
	if !rq.who.anonymous {
		q.who = rq.who.key.ID
	}
	for _, q.action = range actions {
		allowed, denied := policy.decide(q)
		allowed = allowed || slices.Contains(aclActions[b.acl()], q.action)
		switch {
		case rq.who.anonymous && (denied || !allowed || b.blocks().Restrict):
			return errAccessDenied
		case rq.who.anonymous && strings.HasSuffix(q.action, "BucketPolicy"):
			return errMethodNotAllowed // not even if the policy says so
		case denied && !(strings.HasSuffix(q.action, "BucketPolicy") && p.rulesPolicy(rq.who, bucket, b)):
			return errAccessDenied.saying("Access Denied by the policy of the bucket.")
		}
	}
	return nil
}

// rulesPolicy reports whether no policy can keep id from changing it: somebody must
// be left who can. That is the key that made the bucket or, once that is no more or
// may not write to it, each that may write to all buckets.
func (p *Proxy) rulesPolicy(id *identity, bucket string, b *bucketRow) bool {
	if owner := p.identity(b.Owner); owner != nil && owner.mayWrite() && owner.mayUse(bucket) {
		return id.key.ID == b.Owner
	}
	return id.mayWrite() && (len(id.key.Buckets) == 0 || slices.Contains(id.key.Buckets, "*"))
}

// document returns one that is kept with the bucket, or the error that there is none.
func (rq *request) document(name string, none error) ([]byte, error) {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return nil, err
	}
	if raw := b.Documents[name]; raw != nil {
		return raw, nil
	}
	return nil, none
}

// sendDocument answers with it.
func sendDocument(w http.ResponseWriter, rq *request, name string, none error, contentType string) error {
	raw, err := rq.document(name, none)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	_, err = w.Write(raw)
	return err
}

func (p *Proxy) getBucketPolicy(w http.ResponseWriter, rq *request) error {
	return sendDocument(w, rq, policyDocument, errNoSuchPolicy, "application/json")
}

func (p *Proxy) putBucketPolicy(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	raw, err := p.readSmall(rq, maxPolicy)
	if err != nil {
		return err
	}
	policy, err := parseBucketPolicy(raw, rq.bucket, func(id string) bool { return p.identity(id) != nil })
	if err != nil {
		return err
	}
	if policy.isPublic() && (!p.public || b.blocks().Policy) {
		return errBlocked
	}
	return p.keepDocument(w, rq, policyDocument, raw, http.StatusNoContent)
}

// maxPolicy is S3's limit, in bytes.
const maxPolicy = 20 << 10

func (p *Proxy) deleteBucketPolicy(w http.ResponseWriter, rq *request) error {
	return p.keepDocument(w, rq, policyDocument, nil, http.StatusNoContent)
}

// keepDocument keeps a document with the bucket, nil removes it, and answers.
func (p *Proxy) keepDocument(w http.ResponseWriter, rq *request, name string, raw []byte, status int) error {
	if err := p.changeBucket(rq, func(b *bucketRow) error { b.keep(name, raw); return nil }); err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}

func (p *Proxy) getPolicyStatus(w http.ResponseWriter, rq *request) error {
	raw, err := rq.document(policyDocument, errNoSuchPolicy)
	if err != nil {
		return err
	}
	policy, err := parseBucketPolicy(raw, rq.bucket, nil)
	if err != nil {
		return err
	}
	return writeXML(w, http.StatusOK, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ PolicyStatus"`
		IsPublic bool
	}{IsPublic: policy.isPublic()})
}

// accessBlock keeps a bucket from being opened, or closed though it was.
type accessBlock struct {
	XMLName  xml.Name `xml:"PublicAccessBlockConfiguration"`
	ACLs     bool     `xml:"BlockPublicAcls"`
	Ignore   bool     `xml:"IgnorePublicAcls"`
	Policy   bool     `xml:"BlockPublicPolicy"`
	Restrict bool     `xml:"RestrictPublicBuckets"`
}

// blocks is what holds for a bucket. Either of the last two flags closes it to
// requests that nobody signed.
func (b *bucketRow) blocks() accessBlock {
	var a accessBlock
	if raw := b.Documents[blockDocument]; raw != nil && parseXML(raw, &a) != nil { // it was parsed when it came
		a = accessBlock{ACLs: true, Policy: true, Restrict: true}
	}
	a.Restrict = a.Restrict || a.Ignore
	return a
}

// getAccessBlock says what is so: without the setting "public" nothing is public.
func (p *Proxy) getAccessBlock(w http.ResponseWriter, rq *request) error {
	if p.public {
		return sendDocument(w, rq, blockDocument, errNoSuchBlock, "application/xml")
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	return sendXML(w, publicAccessBlock)
}

var errNoSuchBlock = &failure{code: "NoSuchPublicAccessBlockConfiguration", status: 404, message: "The public access block configuration was not found"}

// maxAccessBlock is for four flags, in bytes.
const maxAccessBlock = 4 << 10

// putAccessBlock keeps the flags and nothing else of what it is sent.
func (p *Proxy) putAccessBlock(w http.ResponseWriter, rq *request) error {
	raw, err := p.readSmall(rq, maxAccessBlock)
	if err != nil {
		return err
	}
	var a accessBlock
	if err := parseXML(raw, &a); err != nil {
		return err
	}
	var flags bytes.Buffer
	root := xml.StartElement{Name: xml.Name{Space: xmlNamespace, Local: "PublicAccessBlockConfiguration"}}
	if err := xml.NewEncoder(&flags).EncodeElement(a, root); err != nil {
		return fmt.Errorf("encoding what is blocked: %w", err)
	}
	return p.keepDocument(w, rq, blockDocument, flags.Bytes(), http.StatusOK)
}

func (p *Proxy) deleteAccessBlock(w http.ResponseWriter, rq *request) error {
	return p.keepDocument(w, rq, blockDocument, nil, http.StatusNoContent)
}
