package proxy

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
)

// Object ownership: who owns what another account writes. Here is one owner, so
// every setting comes to the same, and is only remembered.
const (
	ownershipDocument = "ownership"
	aclDocument       = "acl"                 // a public canned ACL; absent: private
	ownerEnforced     = "BucketOwnerEnforced" // the default of S3
)

var ownerships = []string{ownerEnforced, "BucketOwnerPreferred", "ObjectWriter"}

type ownershipXML struct {
	XMLName xml.Name `xml:"OwnershipControls"`
	Rules   []struct {
		Ownership string `xml:"ObjectOwnership"`
	} `xml:"Rule"`
}

// ownership is the setting of a bucket, "" where it was removed.
func (b *bucketRow) ownership() string {
	if o, ok := b.Documents[ownershipDocument]; ok {
		return string(o)
	}
	return ownerEnforced
}

func (p *Proxy) getOwnership(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	o := b.ownership()
	if o == "" {
		return &failure{code: "OwnershipControlsNotFoundError", status: 404, message: "The bucket ownership controls were not found."}
	}
	return sendXML(w, `<OwnershipControls xmlns="`+xmlNamespace+`"><Rule><ObjectOwnership>`+o+`</ObjectOwnership></Rule></OwnershipControls>`)
}

func (p *Proxy) putOwnership(w http.ResponseWriter, rq *request) error {
	var in ownershipXML
	if err := p.readXML(rq, &in); err != nil {
		return err
	}
	if len(in.Rules) != 1 || !slices.Contains(ownerships, in.Rules[0].Ownership) {
		return errMalformedXML
	}
	return p.keepDocument(w, rq, ownershipDocument, []byte(in.Rules[0].Ownership), http.StatusOK)
}

func (p *Proxy) deleteOwnership(w http.ResponseWriter, rq *request) error {
	return p.keepDocument(w, rq, ownershipDocument, []byte{}, http.StatusNoContent) // there, and none: not the default
}

// acl is the public ACL of a bucket, "" if it has none.
func (b *bucketRow) acl() string {
	if b.ownership() == ownerEnforced {
		return ""
	}
	return string(b.Documents[aclDocument])
}

// mayOpen reports whether a bucket may be given a public ACL.
func (p *Proxy) mayOpen(b *bucketRow) error {
	switch {
	case b.ownership() == ownerEnforced:
		return errACLNotSupported
	case !p.public || b.blocks().ACLs:
		return errBlocked
	}
	return nil
}

// The canned ACLs of S3, and those that say what is so anyway.
var (
	cannedACLs = []string{"private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "log-delivery-write", "bucket-owner-read", "bucket-owner-full-control"}
	ownersACLs = []string{"", "private", "bucket-owner-read", "bucket-owner-full-control"}
)

// refuseACL refuses a write that is to be open to others: access goes by keys.
func refuseACL(h http.Header) error {
	if acl := h.Get("X-Amz-Acl"); !slices.Contains(ownersACLs, acl) {
		if !slices.Contains(cannedACLs, acl) {
			return badArgument("x-amz-acl", acl, "")
		}
		return errACLNotSupported
	}
	if hasGrants(h) {
		return errACLNotSupported
	}
	return nil
}

func hasGrants(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Grant-") {
			return true
		}
	}
	return false
}

// findACL makes sure that the bucket or object of rq is there, and returns the
// bucket.
func (p *Proxy) findACL(w http.ResponseWriter, rq *request) (*bucketRow, error) {
	b, err := rq.ix.findBucket(rq.bucket)
	if err == nil && rq.key != "" {
		_, err = p.find(w.Header(), rq)
	}
	return b, err
}

// allUsers begins a grant to everybody. S3 has a URI for them, versitygw an ID.
const allUsers = `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><ID>all-users</ID>` +
	`<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>`

// getACL answers for buckets and objects: the owner may do everything.
func (p *Proxy) getACL(w http.ResponseWriter, rq *request) error {
	b, err := p.findACL(w, rq)
	if err != nil {
		return err
	}
	public := map[string]string{
		"public-read":       allUsers + `READ</Permission></Grant>`,
		"public-read-write": allUsers + `READ</Permission></Grant>` + allUsers + `WRITE</Permission></Grant>`,
	}[b.acl()]
	name := newText(cmp.Or(rq.who.key.ID, "owner")).Escaped // who did not sign is told no access key
	id := `<ID>` + name + `</ID><DisplayName>` + name + `</DisplayName>`
	return sendXML(w, `<AccessControlPolicy xmlns="`+xmlNamespace+`"><Owner>`+id+`</Owner><AccessControlList><Grant>`+
		`<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`+id+`</Grantee>`+
		`<Permission>FULL_CONTROL</Permission></Grant>`+public+`</AccessControlList></AccessControlPolicy>`)
}

// putACL accepts the ACL that everything has, for buckets also those that let
// everybody in, and refuses others.
func (p *Proxy) putACL(w http.ResponseWriter, rq *request) error {
	body, err := p.readSmall(rq, maxXML)
	if err != nil {
		return err
	}
	b, err := p.findACL(w, rq)
	if err != nil {
		return err
	}
	acl, grants := rq.Header.Get("X-Amz-Acl"), hasGrants(rq.Header)
	refusal := errNotImplemented.saying("Only the ACL \"private\" is implemented.")
	if b.ownership() == ownerEnforced {
		refusal = errACLNotSupported
	}
	owners := slices.Contains(ownersACLs, acl)
	switch body = bytes.TrimSpace(body); {
	case acl == "" && !grants && len(body) == 0:
		return &failure{code: "MissingSecurityHeader", status: 404, message: "Your request was missing a required header."}
	case acl != "" && !slices.Contains(cannedACLs, acl):
		return badArgument("x-amz-acl", acl, "")
	case !owners && refusal.code == errACLNotSupported.code:
		return refusal
	case len(body) > 0 && (acl != "" || grants):
		return &failure{code: "UnexpectedContent", status: 400, message: "This request does not support content."}
	case rq.key == "" && aclActions[acl] != nil && !grants:
		if err := p.mayOpen(b); err != nil {
			return err
		}
		return p.keepDocument(w, rq, aclDocument, []byte(acl), http.StatusOK)
	case acl != "" && grants:
		return errInvalidRequest.saying("Specifying both Canned ACLs and Header Grants is not allowed.")
	case len(body) > 0:
		if owners, err = isOwnersACL(body, rq.who.key.ID); err != nil {
			return err
		}
	}
	if grants || !owners {
		return refusal
	}
	if rq.key == "" && b.acl() != "" {
		return p.keepDocument(w, rq, aclDocument, nil, http.StatusOK)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

type aclXML struct {
	XMLName xml.Name `xml:"AccessControlPolicy"`
	Owner   struct{ ID string }
	Grants  []struct {
		Grantee struct {
			Type string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
			ID   string
			URI  string
			Mail string `xml:"EmailAddress"`
		}
		Permission string
	} `xml:"AccessControlList>Grant"`
}

// isOwnersACL reports whether an ACL lets nobody in but the owner.
func isOwnersACL(body []byte, owner string) (bool, error) {
	malformed := &failure{code: "MalformedACLError", status: 400, message: errMalformedXML.message}
	var in aclXML
	if err := parseXML(body, &in); err != nil || in.Owner.ID == "" {
		return false, malformed
	}
	only := in.Owner.ID == owner
	for _, g := range in.Grants {
		who := map[string]string{"CanonicalUser": g.Grantee.ID, "Group": g.Grantee.URI, "AmazonCustomerByEmail": g.Grantee.Mail}[g.Grantee.Type]
		if who == "" || !slices.Contains([]string{"FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"}, g.Permission) {
			return false, malformed
		}
		only = only && who == owner && g.Grantee.Type == "CanonicalUser"
	}
	return only, nil
}
