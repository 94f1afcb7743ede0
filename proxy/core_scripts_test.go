package proxy

// coreCases is the sum of the cases for which the lists and scripts stand. For 42
// more there are TestCoreHeaders (28), TestCoreOverwrite (9), TestCoreRemoval, TestExpired, TestRights (2) and TestContinue.
const coreCases = 257

var coreScripts = []coreScript{
	{"list", 9, "what a listing says of an object is what HEAD says", `
		PUT {b}/bar << bar -> 200 & etag = @Etag
		HEAD {b}/bar -> 200 & @Etag {etag} & @Content-Length 3
		GET {b} -> 200 & has <Size>3</Size> & has <Owner><ID>COFFERTESTKEY</ID>
		GET {b}?list-type=2 -> 200 & no <Owner>
		GET {b}?list-type=2&fetch-owner=true -> 200 & has <Owner>
		GET {b}?versions -> 200 & has <VersionId>null</VersionId> & has <Size>3</Size>
		GET {b}?max-keys=blah -> 400 InvalidArgument
		GET {b}-none -> 404 NoSuchBucket
		GET {b}-none?list-type=2 -> 404 NoSuchBucket`},
	{"list", 3, "tokens go on where a page ended, beside start-after too", `
		PUT {b}/bar -> 200
		PUT {b}/baz -> 200
		PUT {b}/foo -> 200
		PUT {b}/quxx -> 200
		GET {b}?list-type=2&max-keys=1 -> 200 & token = <NextContinuationToken>
		GET {b}?list-type=2&continuation-token={token} -> 200 & has <ContinuationToken>{token}< & no <Key>bar & has <Key>baz & has <IsTruncated>false
		GET {b}?list-type=2&start-after=bar&max-keys=1 -> 200 & token = <NextContinuationToken>
		GET {b}?list-type=2&start-after=bar&continuation-token={token} -> 200 & has <StartAfter>bar< & no <Key>baz & has <Key>foo
		GET {b}?list-type=2&continuation-token= -> 200 & has <ContinuationToken></ContinuationToken> & has <Key>bar
		GET {b}?marker= -> 200 & has <Marker></Marker> & has <Key>bar`},
	{"object", 15, "what is written is read, and nothing else", `
		GET {b}/bar -> 404 NoSuchKey & id = <RequestId> & @X-Amz-Request-Id {id}
		PUT {b}-none/foo << foo -> 404 NoSuchBucket
		PUT {b}/foo -> 200
		HEAD {b}/foo -> 200 & @Content-Length 0
		PUT {b}/foo [Cache-Control: public, max-age=14400; Expires: Thu, 01 Dec 2033 16:00:00 GMT; X-Amz-Meta-Meta1: mymeta] << bar -> 200 & @Etag "37b51d194a7513e45b56f6524f2d51f2"
		HEAD {b}/foo -> 200 & @Cache-Control public, max-age=14400 & @Expires Thu, 01 Dec 2033 16:00:00 GMT & @X-Amz-Meta-Meta1 mymeta
		PUT {b}/foo << soup -> 200
		GET {b}/foo -> 200 & body soup & @X-Amz-Meta-Meta1 -
		PUT {b}/foo [X-Amz-Meta-Meta1: ] -> 200
		HEAD {b}/foo -> 200 & @X-Amz-Meta-Meta1 ` + `
		GET {b}/foo?response-cache-control=no-cache&response-content-disposition=bla&response-content-encoding=aaa&response-content-language=esperanto&response-content-type=foo/bar -> 200 & @Content-Type foo/bar & @Content-Disposition bla & @Content-Language esperanto & @Content-Encoding aaa & @Cache-Control no-cache
		DELETE {b}/foo -> 204
		DELETE {b}/foo -> 204`},
	{"delete", 4, "many keys in one request, whether they are there or not", `
		PUT {b}/key0 -> 200
		PUT {b}/key1 -> 200
		POST {b}?delete << <Delete><Object><Key>key0</Key></Object><Object><Key>key1</Key></Object><Object><Key>key2</Key></Object></Delete> -> 200 & has <Key>key2</Key> & no <Error>
		GET {b} -> 200 & no <Contents>
		POST {b}?delete << <Delete><Quiet>true</Quiet><Object><Key>key0</Key></Object></Delete> -> 200 & no <Deleted>
		POST {b}?delete << <Delete></Delete> -> 200 & no <Deleted>`},
	{"bucket", 16, "buckets come, go, and have names", `
		PUT {b} -> 409 BucketAlreadyOwnedByYou
		HEAD {b} -> 200
		HEAD {b}-none -> 404
		DELETE {b}-none -> 404 NoSuchBucket
		PUT {b}/foo -> 200
		DELETE {b} -> 409 BucketNotEmpty
		GET / -> 200 & has <CreationDate>
		GET {b}?location -> 200 & has <LocationConstraint
		GET /?prefix=core-&max-buckets=1 -> 200 & token = <ContinuationToken>
		GET /?prefix=core-&max-buckets=1&continuation-token={token} -> 200 & no <Name>{token}<
		HEAD {b} [X-Amz-Expected-Bucket-Owner: somebody] -> 403
		PUT /a -> 400 InvalidBucketName
		PUT /aa -> 400 InvalidBucketName
		PUT /foo_bar -> 400 InvalidBucketName
		PUT /foo- -> 400 InvalidBucketName
		PUT /foo..bar -> 400 InvalidBucketName
		PUT /192.168.5.123 -> 400 InvalidBucketName
		PUT /aaa.111 -> 200
		PUT /0aaa-111 -> 200
		PUT /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -> 200
		DELETE /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -> 204
		DELETE /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -> 404 NoSuchBucket`},
	{"bucket", 1, "keys of one odd character", `
		PUT {b}/%20 << 1 -> 200
		PUT {b}/%22 << 2 -> 200
		PUT {b}/%25 << 3 -> 200
		PUT {b}/%3C << 4 -> 200
		PUT {b}/_%20_ << 5 -> 200
		PUT {b}/__ << 6 -> 200
		GET {b}/%25 -> 200 & body 3
		GET {b} -> 200 & has <Key> </Key> & has <Key>&quot;</Key> & has <Key>%</Key> & has <Key>&lt;</Key> & has <Key>_ _</Key> & has <Key>__</Key>
		PUT {b}/%3C?acl [X-Amz-Acl: private] -> 200`},
	{"copy", 13, "content, type and metadata go along, unless they are given anew", `
		PUT {c} -> 200
		PUT {b}/zero -> 200
		PUT {b}/z2 [X-Amz-Copy-Source: {b}/zero] -> 200
		HEAD {b}/z2 -> 200 & @Content-Length 0
		PUT {b}/src [Content-Type: audio/ogg; X-Amz-Meta-Key1: value1; X-Amz-Meta-Key2: value2] << {1M} -> 200 & etag = @Etag
		PUT {b}/kept [X-Amz-Copy-Source: {b}/src] -> 200
		GET {b}/kept -> 200 & @Content-Type audio/ogg & @X-Amz-Meta-Key1 value1 & body {1M}
		PUT {c}/new [X-Amz-Copy-Source: {b}/src; X-Amz-Metadata-Directive: REPLACE; X-Amz-Meta-Key3: value3; Content-Type: audio/mpeg] -> 200
		GET {c}/new -> 200 & @Content-Type audio/mpeg & @X-Amz-Meta-Key1 - & @X-Amz-Meta-Key3 value3 & body {1M}
		PUT {b}/src [X-Amz-Copy-Source: {b}/src] -> 400 InvalidRequest
		PUT {b}/src [X-Amz-Copy-Source: {b}/src; X-Amz-Metadata-Directive: REPLACE; X-Amz-Meta-Foo: bar] -> 200
		HEAD {b}/src -> 200 & @X-Amz-Meta-Foo bar & @X-Amz-Meta-Key1 -
		PUT {b}/x [X-Amz-Copy-Source: {b}-none/src] -> 404
		PUT {b}/x [X-Amz-Copy-Source: {b}/none] -> 404
		PUT {b}/x [X-Amz-Copy-Source: {b}/src; X-Amz-Copy-Source-If-Match: {etag}] -> 200
		PUT {b}/x [X-Amz-Copy-Source: {b}/src; X-Amz-Copy-Source-If-Match: ABCORZ] -> 412 PreconditionFailed
		PUT {b}/x [X-Amz-Copy-Source: {b}/src; X-Amz-Copy-Source-If-None-Match: ABCORZ] -> 200`},
	{"copy", 3, "versions are copied by their ids, also of keys with question marks", `
		PUT {b}?versioning << <VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration> -> 200
		PUT {c} -> 200
		PUT {b}/foo%3Fbar << one -> 200 & one = @X-Amz-Version-Id
		PUT {b}/foo%3Fbar << two -> 200 & two = @X-Amz-Version-Id
		PUT {b}/a%26b [X-Amz-Copy-Source: {b}/foo%3Fbar?versionId={one}] -> 200 & three = @X-Amz-Version-Id & @X-Amz-Copy-Source-Version-Id {one}
		GET {b}/a%26b -> 200 & body one & @X-Amz-Version-Id {three}
		PUT {c}/plain [X-Amz-Copy-Source: {b}/a%26b?versionId={three}] -> 200 & @X-Amz-Version-Id -
		GET {c}/plain -> 200 & body one
		PUT {b}/back [X-Amz-Copy-Source: {c}/plain] -> 200
		GET {b}/back -> 200 & body one
		PUT {c}/newest [X-Amz-Copy-Source: {b}/foo%3Fbar] -> 200
		GET {c}/newest -> 200 & body two`},
	{"multipart", 9, "uploads end well, or not at all", `
		PUT {b}/key << bar -> 200
		POST {b}/key?uploads [Content-Type: text/bla; X-Amz-Meta-Foo: bar] -> 200 & id = <UploadId>
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload></CompleteMultipartUpload> -> 400 MalformedXML
		GET {b}/key -> 200 & body bar
		PUT {b}/key?partNumber=1&uploadId={id} << x -> 200 & one = @Etag
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>9999</PartNumber><ETag>{one}</ETag></Part></CompleteMultipartUpload> -> 400 InvalidPart
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>ffffffffffffffffffffffffffffffff</ETag></Part></CompleteMultipartUpload> -> 400 InvalidPart
		PUT {b}/key?partNumber=2&uploadId={id} << y -> 200 & two = @Etag
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{one}</ETag></Part><Part><PartNumber>2</PartNumber><ETag>{two}</ETag></Part></CompleteMultipartUpload> -> 400 EntityTooSmall
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{one}</ETag></Part></CompleteMultipartUpload> -> 200
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{one}</ETag></Part></CompleteMultipartUpload> -> 200
		GET {b}/key -> 200 & body x & @Content-Type text/bla & @X-Amz-Meta-Foo bar
		POST {b}/key?uploads -> 200 & id = <UploadId>
		DELETE {b}/key?uploadId={id} -> 204
		GET {b}/key -> 200 & body x
		DELETE {b}/key?uploadId=56788 -> 404 NoSuchUpload`},
	{"multipart", 5, "parts are sent again, and the last sent counts", `
		POST {b}/key?uploads -> 200 & id = <UploadId>
		PUT {b}/key?partNumber=1&uploadId={id} << other bytes -> 200
		PUT {b}/key?partNumber=1&uploadId={id} << {5M} -> 200
		PUT {b}/key?partNumber=1&uploadId={id} << {5M} -> 200 & one = @Etag
		PUT {b}/key?partNumber=2&uploadId={id} << {100K} -> 200
		PUT {b}/key?partNumber=2&uploadId={id} << 123 -> 200 & two = @Etag
		GET {b}/key?uploadId={id} -> 200 & has <PartNumber>2</PartNumber> & has <Size>3</Size> & no <PartNumber>3
		GET {b}?uploads -> 200 & has {id}
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{one}</ETag></Part><Part><PartNumber>2</PartNumber><ETag>{two}</ETag></Part></CompleteMultipartUpload> -> 200
		GET {b}?uploads -> 200 & no {id}
		GET {b}/key -> 200 & body {5M}123
		GET {b}/key [Range: bytes=5242880-5242882] -> 206 & body 123
		GET {b}/key?partNumber=2 -> 206 & body 123 & @X-Amz-Mp-Parts-Count 2
		GET {b}/key?attributes [X-Amz-Object-Attributes: ObjectParts; X-Amz-Max-Parts: 1] -> 200 & has <PartsCount>2 & has <IsTruncated>true & has <NextPartNumberMarker>1<
		GET {b}/key?attributes [X-Amz-Object-Attributes: ObjectParts; X-Amz-Part-Number-Marker: 1] -> 200 & has <IsTruncated>false & has <PartNumberMarker>1<
		PUT {b}/copy [X-Amz-Copy-Source: {b}/key] -> 200
		GET {b}/copy -> 200 & body {5M}123`},
	{"multipart", 6, "parts are copied from objects, ranges of them, and versions", `
		PUT {c} -> 200
		PUT {c}?versioning << <VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration> -> 200
		PUT {c}/%3FversionId << 0123456789 -> 200 & one = @X-Amz-Version-Id
		PUT {c}/%3FversionId << abcdefghij -> 200
		POST {b}/key?uploads -> 200 & id = <UploadId>
		PUT {b}/key?partNumber=1&uploadId={id} [X-Amz-Copy-Source: {c}/%3FversionId?versionId={one}; X-Amz-Copy-Source-Range: bytes=2-4] -> 200 & etag = <ETag>
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200
		GET {b}/key -> 200 & body 234
		POST {b}/key?uploads -> 200 & id = <UploadId>
		PUT {b}/key?partNumber=1&uploadId={id} [X-Amz-Copy-Source: {c}/%3FversionId] -> 200 & etag = <ETag>
		PUT {b}/key?partNumber=2&uploadId={id} [X-Amz-Copy-Source: {c}/%3FversionId; X-Amz-Copy-Source-Range: 0-2] -> 400 InvalidArgument
		PUT {b}/key?partNumber=2&uploadId={id} [X-Amz-Copy-Source: {c}/%3FversionId; X-Amz-Copy-Source-Range: bytes=0] -> 400 InvalidArgument
		PUT {b}/key?partNumber=2&uploadId={id} [X-Amz-Copy-Source: {c}/%3FversionId; X-Amz-Copy-Source-Range: bytes=hello-world] -> 400 InvalidArgument
		PUT {b}/key?partNumber=2&uploadId={id} [X-Amz-Copy-Source: {c}/%3FversionId; X-Amz-Copy-Source-Range: bytes=0-2,3-5] -> 400 InvalidArgument
		POST {b}/key?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200
		GET {b}/key -> 200 & body abcdefghij`},
	{"range", 6, "one range, from either end, within the object", `
		PUT {b}/key << testcontent -> 200
		GET {b}/key [Range: bytes=4-7] -> 206 & body cont & @Content-Range bytes 4-7/11
		GET {b}/key [Range: bytes=4-] -> 206 & body content & @Content-Range bytes 4-10/11
		GET {b}/key [Range: bytes=-7] -> 206 & body content & @Content-Range bytes 4-10/11
		GET {b}/key [Range: bytes=40-50] -> 416 InvalidRange
		PUT {b}/key -> 200
		GET {b}/key [Range: bytes=40-50] -> 416 InvalidRange
		PUT {b}/key << {5M} -> 200
		GET {b}/key [Range: bytes=3145728-3145735] -> 206 & body 01234567`},
	{"condition", 9, "reads and writes ask what is there", `
		PUT {b}/foo << bar -> 200 & etag = @Etag
		GET {b}/foo [If-Match: {etag}] -> 200
		GET {b}/foo [If-Match: "ABCORZ"] -> 412 PreconditionFailed
		GET {b}/foo [If-None-Match: {etag}] -> 304
		GET {b}/foo [If-None-Match: ABCORZ] -> 200
		GET {b}/foo [If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT] -> 200
		GET {b}/foo [If-Modified-Since: Sat, 29 Oct 2095 19:43:31 GMT] -> 304
		GET {b}/foo [If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT] -> 412 PreconditionFailed
		GET {b}/foo [If-Unmodified-Since: Sat, 29 Oct 2095 19:43:31 GMT] -> 200
		PUT {b}/foo [If-Match: "ABCORZ"] << zar -> 412 PreconditionFailed
		PUT {b}/foo [If-None-Match: *] << zar -> 412 PreconditionFailed
		GET {b}/foo -> 200 & body bar
		PUT {b}/foo [If-Match: {etag}] << zar -> 200
		GET {b}/foo -> 200 & body zar
		PUT {b}/foo [If-Match: *] << zar -> 200
		PUT {b}/none [If-Match: *] << bar -> 412 PreconditionFailed
		GET {b}/none -> 404 NoSuchKey
		PUT {b}/none [If-None-Match: *] << bar -> 200
		DELETE {b}/none [If-Match: "ABCORZ"] -> 412 PreconditionFailed
		POST {b}/none?uploads -> 200 & id = <UploadId>
		PUT {b}/none?partNumber=1&uploadId={id} << x -> 200 & part = @Etag
		POST {b}/none?uploadId={id} [If-None-Match: *] << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload> -> 412 PreconditionFailed
		POST {b}/none?uploadId={id} [If-Match: "ABCORZ"] << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload> -> 412 PreconditionFailed
		DELETE {b}/none [X-Amz-If-Match-Size: 4] -> 412 PreconditionFailed
		DELETE {b}/none [If-Match: *; X-Amz-If-Match-Size: 3] -> 204`},
	{"tagging", 10, "tags of objects and buckets, and how many and how long", `
		GET {b}?tagging -> 404 NoSuchTagSet
		PUT {b}?tagging << <Tagging><TagSet><Tag><Key>Hello</Key><Value>World</Value></Tag></TagSet></Tagging> -> 204
		GET {b}?tagging -> 200 & has <Key>Hello</Key><Value>World</Value>
		DELETE {b}?tagging -> 204
		GET {b}?tagging -> 404 NoSuchTagSet
		PUT {b}/key [X-Amz-Tagging: foo=bar&bar] << x -> 200
		GET {b}/key?tagging -> 200 & has <Key>bar</Key><Value></Value></Tag><Tag><Key>foo</Key><Value>bar</Value>
		HEAD {b}/key -> 200 & @X-Amz-Tagging-Count 2
		PUT {b}/key?tagging << <Tagging><TagSet><Tag><Key>{128}</Key><Value>{256}</Value></Tag></TagSet></Tagging> -> 200
		GET {b}/key?tagging -> 200 & no <Key>foo & has {128}
		PUT {b}/key?tagging << <Tagging><TagSet><Tag><Key>{128}k</Key><Value>v</Value></Tag></TagSet></Tagging> -> 400 InvalidTag
		PUT {b}/key?tagging << <Tagging><TagSet><Tag><Key>k</Key><Value>{256}v</Value></Tag></TagSet></Tagging> -> 400 InvalidTag
		GET {b}/key?tagging -> 200 & has {128}
		DELETE {b}/key?tagging -> 204
		GET {b}/key?tagging -> 200 & no <Tag>`},
	{"versions", 9, "a plain object is the null version, before, beside and after others", `
		PUT {b}/key << plain -> 200 & @X-Amz-Version-Id -
		GET {b}?versioning -> 200 & no <Status>
		PUT {b}?versioning << <VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration> -> 200
		GET {b}?versioning -> 200 & has <Status>Enabled
		PUT {b}/key << one -> 200 & one = @X-Amz-Version-Id
		GET {b}/key -> 200 & body one & @X-Amz-Version-Id {one}
		DELETE {b}/key?versionId={one} -> 204
		GET {b}/key -> 200 & body plain
		DELETE {b}/key -> 204 & @X-Amz-Delete-Marker true & marker = @X-Amz-Version-Id
		GET {b}/key -> 404 NoSuchKey
		GET {b}?versions -> 200 & has <DeleteMarker & has {marker} & has <VersionId>null
		DELETE {b}/key?versionId={marker} -> 204
		DELETE {b}/key?versionId={marker} -> 204
		GET {b}/key -> 200 & body plain
		PUT {b}?versioning << <VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration> -> 200
		PUT {b}/key << over -> 200 & @X-Amz-Version-Id -
		GET {b}?versions -> 200 & has <VersionId>null & no <DeleteMarker
		DELETE {b}/key -> 204 & @X-Amz-Delete-Marker true
		GET {b}/key -> 404 NoSuchKey
		DELETE {b}/key?versionId=null -> 204
		GET {b}?versions -> 200 & no <Version> & no <DeleteMarker`},
	{"versions", 10, "each version is read, copied over and removed for itself", `
		PUT {b}?versioning << <VersioningConfiguration><MfaDelete>Disabled</MfaDelete><Status>Enabled</Status></VersioningConfiguration> -> 200
		PUT {b}/_ << 1 -> 200 & one = @X-Amz-Version-Id
		PUT {b}/_ << 2 -> 200 & two = @X-Amz-Version-Id
		POST {b}/_?uploads -> 200 & id = <UploadId>
		PUT {b}/_?partNumber=1&uploadId={id} << 3 -> 200 & etag = @Etag
		POST {b}/_?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200 & three = @X-Amz-Version-Id
		GET {b}/_?versionId={one} -> 200 & body 1
		GET {b}/_?versionId={two} -> 200 & body 2
		GET {b}/_ -> 200 & body 3 & @X-Amz-Version-Id {three}
		GET {b}?versions&max-keys=2 -> 200 & has {three} & has {two} & no {one} & key = <NextKeyMarker> & marker = <NextVersionIdMarker>
		GET {b}?versions&key-marker={key}&version-id-marker={marker} -> 200 & has <VersionId>{one} & no <VersionId>{two} & has <IsTruncated>false
		POST {b}?delete << <Delete><Object><Key>_</Key><VersionId>{one}</VersionId></Object><Object><Key>_</Key><VersionId>{three}</VersionId></Object></Delete> -> 200 & no <Error>
		GET {b}/_ -> 200 & body 2
		POST {b}?delete << <Delete><Object><Key>_</Key></Object></Delete> -> 200 & has <DeleteMarker>true & marker = <DeleteMarkerVersionId>
		GET {b}/_?versionId={marker} -> 405 MethodNotAllowed
		DELETE {b}/_?versionId={marker} -> 204
		DELETE {b}/_?versionId={two} -> 204
		DELETE {b} -> 204`},
	{"lock", 13, "the lock of a bucket, and its default", `
		GET {b}?object-lock -> 404 ObjectLockConfigurationNotFoundError
		PUT {b}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration> -> 409 InvalidBucketState
		PUT {b}/key << x -> 200
		PUT {b}/key?retention << <Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 400 InvalidRequest
		GET {b}/key?retention -> 400 InvalidRequest
		PUT {b}/key?legal-hold << <LegalHold><Status>ON</Status></LegalHold> -> 400 InvalidRequest
		GET {b}/key?legal-hold -> 400 InvalidRequest
		PUT {c} [X-Amz-Bucket-Object-Lock-Enabled: true] -> 200
		PUT {c}?versioning << <VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration> -> 409 InvalidBucketState
		GET {c}?versioning -> 200 & has Enabled
		PUT {c}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years></DefaultRetention></Rule></ObjectLockConfiguration> -> 400 MalformedXML
		PUT {c}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>0</Days></DefaultRetention></Rule></ObjectLockConfiguration> -> 400 InvalidRetentionPeriod
		PUT {c}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>governance</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration> -> 400 MalformedXML
		PUT {c}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Disabled</ObjectLockEnabled></ObjectLockConfiguration> -> 400 MalformedXML
		PUT {c}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>1</Years></DefaultRetention></Rule></ObjectLockConfiguration> -> 200
		GET {c}?object-lock -> 200 & has <Mode>COMPLIANCE</Mode><Years>1</Years>
		PUT {c}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration> -> 200
		PUT {c}/key << x -> 200 & one = @X-Amz-Version-Id
		HEAD {c}/key -> 200 & @X-Amz-Object-Lock-Mode GOVERNANCE
		DELETE {c}/key?versionId={one} -> 403 AccessDenied`},
	{"lock", 21, "retention and holds of versions", `
		PUT {c} [X-Amz-Bucket-Object-Lock-Enabled: true] -> 200
		PUT {c}/key << x -> 200 & one = @X-Amz-Version-Id
		PUT {c}/key?retention << <Retention><Mode>governance</Mode><RetainUntilDate>2095-01-03T00:00:00Z</RetainUntilDate></Retention> -> 400 MalformedXML
		PUT {c}/key?retention << <Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 200
		PUT {c}/key?retention&versionId={one} << <Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2095-01-03T00:00:00Z</RetainUntilDate></Retention> -> 200
		GET {c}/key?retention -> 200 & has <RetainUntilDate>2095-01-03T00:00:00
		HEAD {c}/key -> 200 & @X-Amz-Object-Lock-Retain-Until-Date 2095-01-03T00:00:00Z
		PUT {c}/key?retention << <Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 403 AccessDenied
		PUT {c}/key?retention [X-Amz-Bypass-Governance-Retention: true] << <Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 200
		PUT {c}/key?retention << <Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 403 AccessDenied
		DELETE {c}/key?versionId={one} -> 403 AccessDenied
		PUT {c}/key?legal-hold << <LegalHold><Status>abc</Status></LegalHold> -> 400 MalformedXML
		PUT {c}/key?legal-hold << <LegalHold><Status>ON</Status></LegalHold> -> 200
		GET {c}/key?legal-hold -> 200 & has <Status>ON
		DELETE {c}/key?versionId={one} [X-Amz-Bypass-Governance-Retention: true] -> 403 AccessDenied
		PUT {c}/key?legal-hold << <LegalHold><Status>OFF</Status></LegalHold> -> 200
		GET {c}/key?legal-hold -> 200 & has <Status>OFF
		POST {c}?delete << <Delete><Object><Key>key</Key><VersionId>{one}</VersionId></Object></Delete> -> 200 & has <Code>AccessDenied</Code> & has <VersionId>{one}
		POST {c}?delete [X-Amz-Bypass-Governance-Retention: true] << <Delete><Object><Key>key</Key><VersionId>{one}</VersionId></Object></Delete> -> 200 & no <Error>
		PUT {c}/up [X-Amz-Object-Lock-Mode: COMPLIANCE; X-Amz-Object-Lock-Retain-Until-Date: 2095-01-01T00:00:00Z; X-Amz-Object-Lock-Legal-Hold: ON] << x -> 200
		HEAD {c}/up -> 200 & @X-Amz-Object-Lock-Mode COMPLIANCE & @X-Amz-Object-Lock-Legal-Hold ON
		PUT {c}/up?retention [X-Amz-Bypass-Governance-Retention: true] << <Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 403 AccessDenied
		PUT {c}/gov [X-Amz-Object-Lock-Mode: GOVERNANCE; X-Amz-Object-Lock-Retain-Until-Date: 2095-01-01T00:00:00Z] << x -> 200
		PUT {c}/gov?retention [X-Amz-Bypass-Governance-Retention: true] << <Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2095-01-01T00:00:00Z</RetainUntilDate></Retention> -> 200`},
	{"checksum", 6, "checksums are held, told and kept", `
		PUT {b}/key [X-Amz-Checksum-Sha256: /N4rLtula9GI4Cb4u2cQqWnl8M3sIJ9xYbm+gGw4Cyk=] << bar -> 400 BadDigest
		PUT {b}/key [X-Amz-Checksum-Sha256: /N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k=] << bar -> 200
		HEAD {b}/key [X-Amz-Checksum-Mode: ENABLED] -> 200 & @X-Amz-Checksum-Sha256 /N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k=
		GET {b}/key?attributes [X-Amz-Object-Attributes: ETag,Checksum,ObjectSize] -> 200 & has <ChecksumSHA256>/N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k= & has <ObjectSize>3
		POST {b}/mp?uploads [X-Amz-Checksum-Algorithm: SHA256] -> 200 & id = <UploadId> & @X-Amz-Checksum-Algorithm SHA256 & @X-Amz-Checksum-Type COMPOSITE
		PUT {b}/mp?partNumber=1&uploadId={id} [X-Amz-Checksum-Sha256: /N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k=] << bar -> 200 & etag = @Etag
		POST {b}/mp?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag><ChecksumSHA256>/N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k=</ChecksumSHA256></Part></CompleteMultipartUpload> -> 200 & sum = <ChecksumSHA256> & has COMPOSITE
		HEAD {b}/mp [X-Amz-Checksum-Mode: ENABLED] -> 200 & @X-Amz-Checksum-Sha256 {sum}
		GET {b}/mp?partNumber=1 [X-Amz-Checksum-Mode: ENABLED] -> 206 & @X-Amz-Checksum-Sha256 /N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k= & @X-Amz-Checksum-Type COMPOSITE
		GET {b}/mp?attributes [X-Amz-Object-Attributes: ObjectParts,Checksum] -> 200 & has <PartsCount>1 & has <ChecksumSHA256>/N4rLtula/QIYB`},
	{"newer", 15, "what the suite of 2026 asks besides", `
		PUT {b}/foo+bar%25 << 0123456789 -> 200
		POST {b}/mp?uploads -> 200 & id = <UploadId>
		PUT {b}/mp?partNumber=1&uploadId={id} [X-Amz-Copy-Source: {b}/foo%2Bbar%25] -> 200 & etag = <ETag>
		PUT {b}/mp?partNumber=1&uploadId=none << x -> 404 NoSuchUpload
		POST {b}/mp?uploadId=none << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 404 NoSuchUpload
		POST {b}/mp?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200 & tag = <ETag>
		POST {b}/mp?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200 & has {tag}
		GET {b}/mp?partNumber=1 -> 206 & body 0123456789 & @X-Amz-Mp-Parts-Count 1
		GET {b}/mp?attributes [X-Amz-Object-Attributes: ETag,ObjectParts,ObjectSize,StorageClass] -> 200 & has <PartsCount>1 & has <ObjectSize>10 & has <StorageClass>STANDARD
		GET {b}/mp?attributes&versionId=null [X-Amz-Object-Attributes: ObjectSize] -> 200 & no <ETag>
		GET {b}/foo%2Bbar%25?attributes [X-Amz-Object-Attributes: ObjectParts,ObjectSize] -> 200 & no <PartsCount> & has <ObjectSize>10
		HEAD {b}/none -> 404 & @X-Amz-Delete-Marker false
		PUT {b}?versioning << <VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration> -> 200
		DELETE {b}/mp -> 204 & one = @X-Amz-Version-Id
		HEAD {b}/mp -> 404 & @X-Amz-Delete-Marker true & @X-Amz-Version-Id {one}
		PUT {b}?versioning << <VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration> -> 200
		PUT {b}/copy [X-Amz-Copy-Source: {b}/foo%2Bbar%25] -> 200
		PUT {b}/copy [X-Amz-Copy-Source: {b}/copy; X-Amz-Metadata-Directive: REPLACE; X-Amz-Meta-A: b] -> 200
		HEAD {b}/copy -> 200 & @X-Amz-Version-Id null & @X-Amz-Meta-A b
		DELETE {b}/copy -> 204 & @X-Amz-Delete-Marker true & @X-Amz-Version-Id null
		HEAD {b}/copy -> 404 & @X-Amz-Delete-Marker true & @X-Amz-Version-Id null`},
	{"newer", 2, "aws-chunked is no encoding of the object, private no ACL", `
		PUT {b}/key [Content-Encoding: deflate, gzip] << x -> 200
		HEAD {b}/key -> 200 & @Content-Encoding deflate, gzip
		PUT {b}/key [Content-Encoding: gzip, aws-chunked] << x -> 200
		HEAD {b}/key -> 200 & @Content-Encoding gzip
		PUT {b}/key [Content-Encoding: aws-chunked, gzip] << x -> 200
		HEAD {b}/key -> 200 & @Content-Encoding gzip
		PUT {b}/key [Content-Encoding: aws-chunked, aws-chunked] << x -> 200
		HEAD {b}/key -> 200 & @Content-Encoding -
		PUT {b}/key [X-Amz-Acl: private] << y -> 200
		GET {b}/key -> 200 & body y`},
	{"lock", 4, "a lock comes later, and is for uploads in parts too", `
		PUT {b}?versioning << <VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration> -> 200
		PUT {b}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration> -> 409 InvalidBucketState
		PUT {b}?versioning << <VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration> -> 200
		PUT {b}?object-lock << <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration> -> 200
		POST {b}/gov?uploads [X-Amz-Object-Lock-Mode: GOVERNANCE; X-Amz-Object-Lock-Retain-Until-Date: 2095-01-01T00:00:00Z] -> 200 & id = <UploadId>
		PUT {b}/gov?partNumber=1&uploadId={id} << abc -> 200 & etag = @Etag
		POST {b}/gov?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200 & one = @X-Amz-Version-Id
		DELETE {b}/gov?versionId={one} -> 403 AccessDenied
		DELETE {b}/gov?versionId={one} [X-Amz-Bypass-Governance-Retention: true] -> 204
		POST {b}/held?uploads [X-Amz-Object-Lock-Legal-Hold: ON] -> 200 & id = <UploadId>
		PUT {b}/held?partNumber=1&uploadId={id} << abc -> 200 & etag = @Etag
		POST {b}/held?uploadId={id} << <CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload> -> 200 & one = @X-Amz-Version-Id
		DELETE {b}/held?versionId={one} [X-Amz-Bypass-Governance-Retention: true] -> 403 AccessDenied`},
	{"cors", 1, "rules of other origins are kept", `
		GET {b}?cors -> 404 NoSuchCORSConfiguration
		PUT {b}?cors << <CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedOrigin>*.get</AllowedOrigin></CORSRule></CORSConfiguration> -> 200
		GET {b}?cors -> 200 & has <AllowedOrigin>*.get
		DELETE {b}?cors -> 204
		GET {b}?cors -> 404`},
}
