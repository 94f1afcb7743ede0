package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// operation is one action of S3.
type operation struct {
	name   string
	write  bool // needs the right to write
	handle func(*Proxy, http.ResponseWriter, *request) error
}

var unknownOperation = &operation{name: "Unknown"}

// The levels of a path.
const (
	onService = "/"
	onBucket  = "/bucket"
	onObject  = "/bucket/key"
)

// routes finds the operation by method, level and the query parameter that
// tells it from others.
var routes = map[string]*operation{
	"GET " + onService: {"ListBuckets", false, (*Proxy).listBuckets},

	"PUT " + onBucket:                     {"CreateBucket", true, (*Proxy).createBucket},
	"HEAD " + onBucket:                    {"HeadBucket", false, (*Proxy).headBucket},
	"DELETE " + onBucket:                  {"DeleteBucket", true, (*Proxy).deleteBucket},
	"GET " + onBucket:                     {"ListObjects", false, (*Proxy).listObjects},
	"GET " + onBucket + "?list-type":      {"ListObjectsV2", false, (*Proxy).listObjectsV2},
	"GET " + onBucket + "?versions":       {"ListObjectVersions", false, (*Proxy).listVersions},
	"GET " + onBucket + "?uploads":        {"ListMultipartUploads", false, (*Proxy).listUploads},
	"POST " + onBucket + "?delete":        {"DeleteObjects", true, (*Proxy).deleteObjects},
	"GET " + onBucket + "?location":       {"GetBucketLocation", false, (*Proxy).getBucketLocation},
	"GET " + onBucket + "?versioning":     {"GetBucketVersioning", false, (*Proxy).getBucketVersioning},
	"PUT " + onBucket + "?versioning":     {"PutBucketVersioning", true, (*Proxy).putBucketVersioning},
	"GET " + onBucket + "?tagging":        {"GetBucketTagging", false, (*Proxy).getBucketTagging},
	"PUT " + onBucket + "?tagging":        {"PutBucketTagging", true, (*Proxy).putBucketTagging},
	"DELETE " + onBucket + "?tagging":     {"DeleteBucketTagging", true, (*Proxy).deleteBucketTagging},
	"GET " + onBucket + "?object-lock":    {"GetObjectLockConfiguration", false, (*Proxy).getLockConfiguration},
	"PUT " + onBucket + "?object-lock":    {"PutObjectLockConfiguration", true, (*Proxy).putLockConfiguration},
	"GET " + onBucket + "?cors":           {"GetBucketCors", false, (*Proxy).getCORS},
	"PUT " + onBucket + "?cors":           {"PutBucketCors", true, (*Proxy).putCORS},
	"DELETE " + onBucket + "?cors":        {"DeleteBucketCors", true, (*Proxy).deleteCORS},
	"GET " + onBucket + "?encryption":     {"GetBucketEncryption", false, (*Proxy).getEncryption},
	"PUT " + onBucket + "?encryption":     {"PutBucketEncryption", true, (*Proxy).putEncryption},
	"DELETE " + onBucket + "?encryption":  {"DeleteBucketEncryption", true, (*Proxy).deleteEncryption},
	"GET " + onBucket + "?acl":            {"GetBucketAcl", false, (*Proxy).getACL},
	"PUT " + onBucket + "?acl":            {"PutBucketAcl", true, (*Proxy).putACL},
	"GET " + onBucket + "?policy":         {"GetBucketPolicy", false, (*Proxy).getBucketPolicy},
	"PUT " + onBucket + "?policy":         {"PutBucketPolicy", true, (*Proxy).putBucketPolicy},
	"GET " + onBucket + "?policyStatus":   {"GetBucketPolicyStatus", false, (*Proxy).getPolicyStatus},
	"GET " + onBucket + "?lifecycle":      {"GetBucketLifecycle", false, absent(errNoSuchLifecycle)},
	"GET " + onBucket + "?replication":    {"GetBucketReplication", false, absent(errNoSuchReplication)},
	"GET " + onBucket + "?website":        {"GetBucketWebsite", false, (*Proxy).getWebsite},
	"PUT " + onBucket + "?website":        {"PutBucketWebsite", true, (*Proxy).putWebsite},
	"GET " + onBucket + "?requestPayment": {"GetBucketRequestPayment", false, canned(requestPayment)},
	"GET " + onBucket + "?logging":        {"GetBucketLogging", false, canned(loggingStatus)},
	"GET " + onBucket + "?accelerate":     {"GetBucketAccelerateConfiguration", false, canned(accelerate)},
	"GET " + onBucket + "?notification":   {"GetBucketNotificationConfiguration", false, canned(notification)},

	"GET " + onBucket + "?publicAccessBlock":    {"GetPublicAccessBlock", false, (*Proxy).getAccessBlock},
	"PUT " + onBucket + "?publicAccessBlock":    {"PutPublicAccessBlock", true, (*Proxy).putAccessBlock},
	"GET " + onBucket + "?ownershipControls":    {"GetBucketOwnershipControls", false, (*Proxy).getOwnership},
	"PUT " + onBucket + "?ownershipControls":    {"PutBucketOwnershipControls", true, (*Proxy).putOwnership},
	"DELETE " + onBucket + "?ownershipControls": {"DeleteBucketOwnershipControls", true, (*Proxy).deleteOwnership},
	"DELETE " + onBucket + "?policy":            {"DeleteBucketPolicy", true, (*Proxy).deleteBucketPolicy},
	"DELETE " + onBucket + "?lifecycle":         {"DeleteBucketLifecycle", true, nothingThere},
	"DELETE " + onBucket + "?website":           {"DeleteBucketWebsite", true, (*Proxy).deleteWebsite},
	"DELETE " + onBucket + "?replication":       {"DeleteBucketReplication", true, nothingThere},
	"DELETE " + onBucket + "?publicAccessBlock": {"DeletePublicAccessBlock", true, (*Proxy).deleteAccessBlock},

	"GET " + onObject:                   {"GetObject", false, (*Proxy).getObject},
	"HEAD " + onObject:                  {"HeadObject", false, (*Proxy).getObject},
	"PUT " + onObject:                   {"PutObject", true, (*Proxy).putObject},
	"DELETE " + onObject:                {"DeleteObject", true, (*Proxy).deleteObject},
	"GET " + onObject + "?attributes":   {"GetObjectAttributes", false, (*Proxy).getAttributes},
	"GET " + onObject + "?tagging":      {"GetObjectTagging", false, (*Proxy).getObjectTagging},
	"PUT " + onObject + "?tagging":      {"PutObjectTagging", true, (*Proxy).putObjectTagging},
	"DELETE " + onObject + "?tagging":   {"DeleteObjectTagging", true, (*Proxy).deleteObjectTagging},
	"GET " + onObject + "?retention":    {"GetObjectRetention", false, (*Proxy).getRetention},
	"PUT " + onObject + "?retention":    {"PutObjectRetention", true, (*Proxy).putRetention},
	"GET " + onObject + "?legal-hold":   {"GetObjectLegalHold", false, (*Proxy).getLegalHold},
	"PUT " + onObject + "?legal-hold":   {"PutObjectLegalHold", true, (*Proxy).putLegalHold},
	"GET " + onObject + "?acl":          {"GetObjectAcl", false, (*Proxy).getACL},
	"PUT " + onObject + "?acl":          {"PutObjectAcl", true, (*Proxy).putACL},
	"POST " + onObject + "?uploads":     {"CreateMultipartUpload", true, (*Proxy).createUpload},
	"PUT " + onObject + "?uploadId":     {"UploadPart", true, (*Proxy).uploadPart},
	"POST " + onObject + "?uploadId":    {"CompleteMultipartUpload", true, (*Proxy).completeUpload},
	"DELETE " + onObject + "?uploadId":  {"AbortMultipartUpload", true, (*Proxy).abortUpload},
	"GET " + onObject + "?uploadId":     {"ListParts", false, (*Proxy).listParts},
	"POST " + onObject + "?select":      {"SelectObjectContent", true, unsupported},
	"POST " + onObject + "?restore":     {"RestoreObject", true, unsupported},
	"GET " + onObject + "?torrent":      {"GetObjectTorrent", false, unsupported},
	"PUT " + onObject + "?renameObject": {"RenameObject", true, unsupported},
}

// subresource are the query parameters that make another operation of a request;
// what is not in routes with them is not implemented. They are looked for in
// this order.
var subresource = map[string][]string{
	onService: nil,
	onBucket: {
		"accelerate", "acl", "analytics", "cors", "delete", "encryption", "intelligent-tiering", "inventory", "lifecycle",
		"location", "logging", "metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock",
		"ownershipControls", "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "session",
		"tagging", "uploads", "versioning", "versions", "website", "list-type",
	},
	onObject: {
		"acl", "annotation", "append", "attributes", "encryption", "legal-hold", "renameObject", "restore", "retention", "select", "tagging", "torrent",
		"uploads", "uploadId", "partNumber",
	},
}

// route finds the operation that rq asks for.
func route(rq *request) (*operation, error) {
	if rq.Method == http.MethodPatch && rq.key == "create" { // versitygw's
		return &operation{"CreateBucket", true, (*Proxy).createBucketFor}, nil
	}
	level := onObject
	switch {
	case rq.bucket == "":
		level = onService
	case rq.key == "":
		level = onBucket
	}
	for _, name := range subresource[level] {
		if !rq.query.Has(name) {
			continue
		}
		if name == "partNumber" && (rq.Method == http.MethodGet || rq.Method == http.MethodHead) {
			continue // a GET of one part is a GET
		}
		if rq.Method == http.MethodPut && (name == "uploadId" || name == "partNumber") {
			return partOperation(rq.query)
		}
		if op, ok := routes[rq.Method+" "+level+"?"+name]; ok {
			return op, nil
		}
		if name == "uploads" && level == onObject && rq.Method == http.MethodGet {
			return unknownOperation, errInvalidRequest.saying("Key is not expected for the GET method ?uploads subresource")
		}
		write := rq.Method != http.MethodGet && rq.Method != http.MethodHead
		return &operation{unknownOperation.name, write, notImplemented(errNotImplemented.saying("%s with ?%s is not implemented.", rq.Method, name))}, nil
	}
	if level == onObject && rq.Method == http.MethodGet && rq.query.Has("versions") {
		return unknownOperation, errInvalidRequest.saying("There is no such thing as the ?versions sub-resource for a key")
	}
	if op, ok := routes[rq.Method+" "+level]; ok {
		return op, nil
	}
	if strings.Contains("GET HEAD PUT POST DELETE", rq.Method) {
		kind := resourceTypes[level]
		if rq.Method == http.MethodPost { // S3 has it so
			kind = resourceTypes[onService]
		}
		return unknownOperation, errMethodNotAllowed.with("Method", rq.Method).with("ResourceType", kind)
	}
	return unknownOperation, errNotImplemented
}

// resourceTypes are the levels in the words of S3.
var resourceTypes = map[string]string{onService: "SERVICE", onBucket: "BUCKET", onObject: "OBJECT"}

// partOperation is a PUT with an upload id, a part number or both.
func partOperation(q url.Values) (*operation, error) {
	switch {
	case !q.Has("uploadId"):
		return unknownOperation, badArgument("partNumber", "partNumber", "This operation does not accept partNumber without uploadId")
	case !q.Has("partNumber"):
		return unknownOperation, errMethodNotAllowed.with("Method", http.MethodPut).with("ResourceType", "UPLOAD")
	}
	return routes["PUT "+onObject+"?uploadId"], nil
}

var unsupported = notImplemented(errNotImplemented)

// notImplemented refuses, in a bucket that is there.
func notImplemented(f *failure) func(*Proxy, http.ResponseWriter, *request) error {
	return func(_ *Proxy, _ http.ResponseWriter, rq *request) error {
		if _, err := rq.ix.findBucket(rq.bucket); err != nil {
			return err
		}
		return f
	}
}
