package proxy

import (
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
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
