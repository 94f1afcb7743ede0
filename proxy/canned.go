package proxy

import (
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// What every bucket answers to questions about features that coffer has no use
// for: the defaults of S3. Infrastructure tools ask for all of them.
const (
	requestPayment    = `<RequestPaymentConfiguration xmlns="` + xmlNamespace + `"><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`
	loggingStatus     = `<BucketLoggingStatus xmlns="` + xmlNamespace + `"/>`
	accelerate        = `<AccelerateConfiguration xmlns="` + xmlNamespace + `"/>`
	notification      = `<NotificationConfiguration xmlns="` + xmlNamespace + `"/>`
	publicAccessBlock = `<PublicAccessBlockConfiguration xmlns="` + xmlNamespace + `"><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>` +
		`<BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`
	ownershipControls = `<OwnershipControls xmlns="` + xmlNamespace + `"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`
	encryptionDefault = `<ServerSideEncryptionConfiguration xmlns="` + xmlNamespace + `"><Rule><ApplyServerSideEncryptionByDefault>` +
		`<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>`
)

func sendXML(w http.ResponseWriter, body string) error {
	body = xml.Header + body
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, err := io.WriteString(w, body)
	return err
}

// canned answers with body if the bucket exists.
func canned(body string) func(*Proxy, http.ResponseWriter, *request) error {
	return func(_ *Proxy, w http.ResponseWriter, rq *request) error {
		if _, err := rq.ix.findBucket(rq.bucket); err != nil {
			return err
		}
		return sendXML(w, body)
	}
}

// absent answers that the bucket, if it exists, has no such thing.
func absent(f *failure) func(*Proxy, http.ResponseWriter, *request) error {
	return func(_ *Proxy, _ http.ResponseWriter, rq *request) error {
		if _, err := rq.ix.findBucket(rq.bucket); err != nil {
			return err
		}
		return f
	}
}

// nothingThere answers the removal of what no bucket has.
func nothingThere(_ *Proxy, w http.ResponseWriter, rq *request) error {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type encryptionXML struct {
	XMLName xml.Name `xml:"ServerSideEncryptionConfiguration"`
	Rules   []struct {
		Algorithm string `xml:"ApplyServerSideEncryptionByDefault>SSEAlgorithm"`
	} `xml:"Rule"`
}

// getEncryption says what is always true.
func (p *Proxy) getEncryption(w http.ResponseWriter, rq *request) error {
	return canned(encryptionDefault)(p, w, rq)
}

// putEncryption accepts what is done anyway, and refuses what is not.
func (p *Proxy) putEncryption(w http.ResponseWriter, rq *request) error {
	var in encryptionXML
	if err := p.readXML(rq, &in); err != nil {
		return err
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	if len(in.Rules) != 1 {
		return errMalformedXML
	}
	if in.Rules[0].Algorithm != "AES256" {
		return errNotImplemented.saying("Encryption with keys of a KMS is not implemented: every object is encrypted under your own key.")
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (p *Proxy) deleteEncryption(w http.ResponseWriter, rq *request) error {
	return nothingThere(p, w, rq)
}

type publicAccessBlockXML struct {
	XMLName xml.Name `xml:"PublicAccessBlockConfiguration"`
	Acls    string   `xml:"BlockPublicAcls"`
	Ignore  string   `xml:"IgnorePublicAcls"`
	Policy  string   `xml:"BlockPublicPolicy"`
	Buckets string   `xml:"RestrictPublicBuckets"`
}

// putPublicAccessBlock accepts a block: nothing here is ever public.
func (p *Proxy) putPublicAccessBlock(w http.ResponseWriter, rq *request) error {
	var in publicAccessBlockXML
	if err := p.readXML(rq, &in); err != nil {
		return err
	}
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// getACL answers for buckets and objects: the owner may do everything.
func (p *Proxy) getACL(w http.ResponseWriter, rq *request) error {
	if rq.key == "" {
		if _, err := rq.ix.findBucket(rq.bucket); err != nil {
			return err
		}
	} else if _, err := p.find(w.Header(), rq); err != nil {
		return err
	}
	id := `<ID>` + newText(rq.who.key.ID).Escaped + `</ID><DisplayName>` + newText(rq.who.key.ID).Escaped + `</DisplayName>`
	return sendXML(w, `<AccessControlPolicy xmlns="`+xmlNamespace+`"><Owner>`+id+`</Owner><AccessControlList><Grant>`+
		`<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`+id+`</Grantee>`+
		`<Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>`)
}

// putACL accepts the ACL that everything has, and refuses others.
func (p *Proxy) putACL(w http.ResponseWriter, rq *request) error {
	body, err := p.readSmall(rq, maxXML)
	if err != nil {
		return err
	}
	if rq.key == "" {
		if _, err := rq.ix.findBucket(rq.bucket); err != nil {
			return err
		}
	} else if _, err := p.find(w.Header(), rq); err != nil {
		return err
	}
	acl := rq.Header.Get("X-Amz-Acl")
	if acl != "" && acl != "private" && acl != "bucket-owner-full-control" || len(body) > 0 && strings.Contains(string(body), "AllUsers") {
		return errNotImplemented.saying("Only the ACL \"private\" is implemented.")
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
