package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// failure is an answer that is an error: an S3 code, its HTTP status and a
// message for people. cause is logged, never sent: it may hold what the client
// is not to see.
type failure struct {
	code    string
	status  int
	message string
	fields  []field
	cause   error
}

// field is one more element of an error body.
type field struct{ name, value string }

func (f *failure) Error() string {
	if f.cause != nil {
		return f.code + ": " + f.cause.Error()
	}
	return f.code + ": " + f.message
}

func (f *failure) Unwrap() error { return f.cause }

// Is lets errors.Is compare failures by their code.
func (f *failure) Is(target error) bool {
	t, ok := target.(*failure)
	return ok && t.code == f.code
}

// with returns f with one more element in its body.
func (f *failure) with(name, value string) *failure {
	g := *f
	g.fields = append(slices.Clone(f.fields), field{name, value})
	return &g
}

// badArgument is InvalidArgument about the argument of that name.
func badArgument(name, value, format string, args ...any) *failure {
	return errInvalidArgument.saying(format, args...).with("ArgumentName", name).with("ArgumentValue", value)
}

// because returns f with a cause for the log.
func (f *failure) because(err error) *failure {
	g := *f
	g.cause = err
	return &g
}

// saying returns f with another message.
func (f *failure) saying(format string, args ...any) *failure {
	g := *f
	g.message = fmt.Sprintf(format, args...)
	return &g
}

// The errors of S3 that coffer answers with: the only place where a code meets
// its status.
var (
	errACLNotSupported       = &failure{code: "AccessControlListNotSupported", status: 400, message: "The bucket does not allow ACLs."}
	errAccessDenied          = &failure{code: "AccessDenied", status: 403, message: "Access Denied."}
	errAnonymous             = &failure{code: "AccessDenied", status: 403, message: "Anonymous users cannot invoke this API. Please authenticate."}
	errAuthHeaderMalformed   = &failure{code: "AuthorizationHeaderMalformed", status: 400, message: "The authorization header is malformed."}
	errAuthQueryMalformed    = &failure{code: "AuthorizationQueryParametersError", status: 400, message: "The authorization parameters in the query are malformed."}
	errBadRequest            = &failure{code: "400", status: 400, message: "Bad Request"}
	errBadDigest             = &failure{code: "BadDigest", status: 400, message: "The Content-MD5 you specified did not match what we received."}
	errBlocked               = &failure{code: "AccessDenied", status: 403, message: "Public access is blocked: by the bucket, or as the gateway is not set to allow it."}
	errBucketNotEmpty        = &failure{code: "BucketNotEmpty", status: 409, message: "The bucket you tried to delete is not empty."}
	errBucketOwned           = &failure{code: "BucketAlreadyOwnedByYou", status: 409, message: "Your previous request to create the named bucket succeeded and you already own it."}
	errCorrupt               = &failure{code: "ObjectCorrupt", status: 422, message: "The storage does not hold the bytes that were written."}
	errContentSHA256Mismatch = &failure{code: "XAmzContentSHA256Mismatch", status: 400, message: "The provided 'x-amz-content-sha256' header does not match what was computed."}
	errEntityTooLarge        = &failure{code: "EntityTooLarge", status: 400, message: "Your proposed upload exceeds the maximum allowed object size."}
	errEntityTooSmall        = &failure{code: "EntityTooSmall", status: 400, message: "Your proposed upload is smaller than the minimum allowed size"}
	errExpiredToken          = &failure{code: "AccessDenied", status: 403, message: "Request has expired."}
	errHeadersNotSigned      = &failure{code: "AccessDenied", status: 403, message: "There were headers present in the request which were not signed"}
	errHeadersTooLarge       = &failure{code: "RequestHeaderSectionTooLarge", status: 400, message: "Your request header section exceeds the maximum allowed size."}
	errIncompleteBody        = &failure{code: "IncompleteBody", status: 400, message: "You did not provide the number of bytes specified by the Content-Length HTTP header"}
	errInternal              = &failure{code: "InternalError", status: 500, message: "We encountered an internal error, please try again."}
	errInvalidAccessKey      = &failure{code: "InvalidAccessKeyId", status: 403, message: "The AWS Access Key Id you provided does not exist in our records."}
	errInvalidArgument       = &failure{code: "InvalidArgument", status: 400, message: "Invalid argument."}
	errInvalidURI            = &failure{code: "InvalidURI", status: 400, message: "Couldn't parse the specified URI."}
	errInvalidBucketName     = &failure{code: "InvalidBucketName", status: 400, message: "The specified bucket is not valid."}
	errInvalidBucketState    = &failure{code: "InvalidBucketState", status: 409, message: "The request is not valid for the current state of the bucket."}
	errInvalidDigest         = &failure{code: "InvalidDigest", status: 400, message: "The Content-Md5 you specified is not valid."}
	errInvalidPart           = &failure{code: "InvalidPart", status: 400, message: "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."}
	errInvalidPartNumber     = &failure{code: "InvalidPartNumber", status: 416, message: "The requested partnumber is not satisfiable."}
	errInvalidPartOrder      = &failure{code: "InvalidPartOrder", status: 400, message: "The list of parts was not in ascending order. Parts must be ordered by part number."}
	errInvalidRange          = &failure{code: "InvalidRange", status: 416, message: "The requested range is not satisfiable"}
	errInvalidRequest        = &failure{code: "InvalidRequest", status: 400, message: "Invalid request."}
	errInvalidRetention      = &failure{code: "InvalidRetentionPeriod", status: 400, message: "The retention period must be a positive number."}
	errInvalidToken          = &failure{code: "InvalidToken", status: 400, message: "The provided token is malformed or otherwise invalid."}
	errInvalidTag            = &failure{code: "InvalidTag", status: 400, message: "The tag provided was not a valid tag."}
	errKeyTooLong            = &failure{code: "KeyTooLongError", status: 400, message: "Your key is too long."}
	errMalformedPOST         = &failure{code: "MalformedPOSTRequest", status: 400, message: "The body of your POST request is not well-formed multipart/form-data."}
	errMalformedXML          = &failure{code: "MalformedXML", status: 400, message: "The XML you provided was not well-formed or did not validate against our published schema."}
	errMetadataTooLarge      = &failure{code: "MetadataTooLarge", status: 400, message: "Your metadata headers exceed the maximum allowed metadata size"}
	errMethodNotAllowed      = &failure{code: "MethodNotAllowed", status: 405, message: "The specified method is not allowed against this resource."}
	errMissingBody           = &failure{code: "MissingRequestBodyError", status: 400, message: "Request Body is empty"}
	errMissingDigest         = &failure{code: "InvalidRequest", status: 400, message: "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"}
	errMissingLength         = &failure{code: "MissingContentLength", status: 411, message: "You must provide the Content-Length HTTP header."}
	errNoSuchBucket          = &failure{code: "NoSuchBucket", status: 404, message: "The specified bucket does not exist."}
	errNoSuchCORS            = &failure{code: "NoSuchCORSConfiguration", status: 404, message: "The CORS configuration does not exist"}
	errNoSuchKey             = &failure{code: "NoSuchKey", status: 404, message: "The specified key does not exist."}
	errNoSuchLifecycle       = &failure{code: "NoSuchLifecycleConfiguration", status: 404, message: "The lifecycle configuration does not exist."}
	errNoSuchLock            = &failure{code: "ObjectLockConfigurationNotFoundError", status: 404, message: "Object Lock configuration does not exist for this bucket."}
	errNoSuchObjectLock      = &failure{code: "NoSuchObjectLockConfiguration", status: 404, message: "The specified object does not have a ObjectLock configuration."}
	errNoSuchPolicy          = &failure{code: "NoSuchBucketPolicy", status: 404, message: "The bucket policy does not exist."}
	errNoSuchReplication     = &failure{code: "ReplicationConfigurationNotFoundError", status: 404, message: "The replication configuration was not found."}
	errNoSuchTagSet          = &failure{code: "NoSuchTagSet", status: 404, message: "The TagSet does not exist."}
	errNoSuchUpload          = &failure{code: "NoSuchUpload", status: 404, message: "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."}
	errNoSuchVersion         = &failure{code: "NoSuchVersion", status: 404, message: "The specified version does not exist."}
	errNoSuchWebsite         = &failure{code: "NoSuchWebsiteConfiguration", status: 404, message: "The specified bucket does not have a website configuration"}
	errNotImplemented        = &failure{code: "NotImplemented", status: 501, message: "A header you provided implies functionality that is not implemented."}
	errNotModified           = &failure{code: "NotModified", status: 304}
	errPreconditionFailed    = &failure{code: "PreconditionFailed", status: 412, message: "At least one of the pre-conditions you specified did not hold."}
	errRequestTimeout        = &failure{code: "RequestTimeout", status: 400, message: "Your socket connection to the server was not read from or written to within the timeout period."}
	errServiceUnavailable    = &failure{code: "ServiceUnavailable", status: 503, message: "Please try again later."}
	errSignatureMismatch     = &failure{code: "SignatureDoesNotMatch", status: 403, message: "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	errUnsupportedSignature  = &failure{code: "InvalidRequest", status: 400, message: "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."}
	errFull                  = &failure{code: "InsufficientStorage", status: 507, message: "The storage behind is full. Make room there, then try again: nothing was written."}
	errSlowDown              = &failure{code: "SlowDown", status: 503, message: "The storage behind is not reachable. Please try again later."}
	errTimeSkewed            = &failure{code: "RequestTimeTooSkewed", status: 403, message: "The difference between the request time and the current time is too large."}
)

// status499 is what the access log says of a client that hung up.
const status499 = 499

// failed translates err, once, at the edge. What it does not know becomes
// InternalError: the text may hold names that the client is not to see.
func (p *Proxy) failed(err error) *failure {
	var f *failure
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &tooLarge):
		return errEntityTooLarge.because(err)
	case errors.Is(err, context.Canceled):
		return &failure{code: "RequestCanceled", status: status499, message: "The client hung up.", cause: err}
	}
	if f := storeFailure(err); f != nil {
		return f
	}
	return errInternal.because(err)
}
