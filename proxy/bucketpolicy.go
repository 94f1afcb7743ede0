package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// bucketPolicy says who may do what in a bucket beside, or in spite of, the rights of
// access keys. See docs/decisions/0042-bucket-policies.md.
type bucketPolicy []policyStatement

type policyStatement struct {
	deny       bool
	anyone     bool     // also those who sign nothing
	who        []string // access keys
	actions    []string // with "*" and "?"
	resources  []string // BUCKET or BUCKET/KEY, with "*" and "?"
	conditions []policyTest
}

// objectActions and bucketActions are all that a policy can speak of.
var (
	objectActions = []string{
		"s3:AbortMultipartUpload", "s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectTagging", "s3:DeleteObjectVersion",
		"s3:DeleteObjectVersionTagging", "s3:GetObject", "s3:GetObjectAcl", "s3:GetObjectAttributes", "s3:GetObjectLegalHold", "s3:GetObjectRetention",
		"s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionAcl", "s3:GetObjectVersionAttributes", "s3:GetObjectVersionTagging",
		"s3:ListMultipartUploadParts", "s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectLegalHold", "s3:PutObjectRetention", "s3:PutObjectTagging",
		"s3:PutObjectVersionAcl", "s3:PutObjectVersionTagging", "s3:RestoreObject",
	}
	bucketActions = []string{
		"s3:CreateBucket", "s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:DeleteBucketWebsite", "s3:GetAccelerateConfiguration", "s3:GetBucketAcl",
		"s3:GetBucketCORS", "s3:GetBucketLocation", "s3:GetBucketLogging", "s3:GetBucketNotification", "s3:GetBucketObjectLockConfiguration",
		"s3:GetBucketOwnershipControls", "s3:GetBucketPolicy", "s3:GetBucketPolicyStatus", "s3:GetBucketPublicAccessBlock",
		"s3:GetBucketRequestPayment", "s3:GetBucketTagging", "s3:GetBucketVersioning", "s3:GetBucketWebsite", "s3:GetEncryptionConfiguration",
		"s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions",
		"s3:PutBucketAcl", "s3:PutBucketCORS", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketOwnershipControls", "s3:PutBucketPolicy",
		"s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutBucketWebsite", "s3:PutEncryptionConfiguration",
		"s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration",
	}
)

const (
	resourcePrefix = "arn:aws:s3:::"
	everyAction    = "s3:*"
)

// malformedPolicy refuses a policy in the words of S3.
func malformedPolicy(format string, args ...any) *failure {
	return &failure{code: "MalformedPolicy", status: 400, message: fmt.Sprintf(format, args...)}
}

// oneOrMany is a string or a list of some, never empty.
type oneOrMany []string

func (l *oneOrMany) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*l = oneOrMany{one}
	} else if err := json.Unmarshal(raw, (*[]string)(l)); err != nil {
		return err
	}
	if len(*l) == 0 || slices.Contains(*l, "") {
		return errors.New("nothing is named")
	}
	return nil
}

// parseBucketPolicy reads the policy of a bucket. Whatever it could not enforce
// later is an error. known tells whether there is such an access key; nil: all are.
func parseBucketPolicy(raw []byte, bucket string, known func(id string) bool) (bucketPolicy, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, malformedPolicy("Policies must be valid JSON and the first byte must be '{'")
	}
	var top map[string]json.RawMessage // not a struct, which takes names in any case
	if json.Unmarshal(raw, &top) != nil || saysTwice(json.NewDecoder(bytes.NewReader(raw))) {
		return nil, malformedPolicy("This policy contains invalid Json")
	}
	if err := onlyFields(top, "Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	var version string
	if v := top["Version"]; v != nil && (json.Unmarshal(v, &version) != nil || version != "2008-10-17" && version != "2012-10-17") {
		return nil, malformedPolicy("The policy must contain a valid version string")
	}
	if top["Statement"] == nil {
		return nil, malformedPolicy("Missing required field Statement")
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(top["Statement"], &list) != nil {
		var one map[string]json.RawMessage
		if json.Unmarshal(top["Statement"], &one) != nil {
			return nil, malformedPolicy("This policy contains invalid Json")
		}
		list = append(list[:0], one)
	}
	if len(list) == 0 {
		return nil, malformedPolicy("Could not parse the policy: Statement is empty!")
	}
	p := make(bucketPolicy, len(list))
	for i, fields := range list {
		if err := p[i].parse(fields, bucket, known); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// saysTwice reports whether an object in the next value has the same field twice:
// readers would differ in which of them holds. The value is known to be JSON.
func saysTwice(d *json.Decoder) bool {
	token, err := d.Token()
	open, ok := token.(json.Delim)
	if err != nil || !ok {
		return false
	}
	seen := make(map[any]bool)
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil || seen[name] {
				return true
			}
			seen[name] = true
		}
		if saysTwice(d) {
			return true
		}
	}
	_, err = d.Token() // its end
	return err != nil
}

// onlyFields refuses what would otherwise be passed over in silence.
func onlyFields(m map[string]json.RawMessage, names ...string) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(names, name) {
			return malformedPolicy("Unsupported field %s", name)
		}
	}
	return nil
}

func (s *policyStatement) parse(fields map[string]json.RawMessage, bucket string, known func(string) bool) error {
	if err := onlyFields(fields, "Sid", "Effect", "Principal", "Action", "Resource", "Condition"); err != nil {
		return err
	}
	var effect string
	if json.Unmarshal(fields["Effect"], &effect) != nil || effect != "Allow" && effect != "Deny" {
		return malformedPolicy("Invalid effect: %s", effect)
	}
	s.deny = effect == "Deny"
	if !s.parsePrincipal(fields["Principal"], known) {
		return malformedPolicy("Invalid principal in policy")
	}
	if json.Unmarshal(fields["Action"], (*oneOrMany)(&s.actions)) != nil || slices.ContainsFunc(s.actions, func(a string) bool {
		return !strings.HasPrefix(a, "s3:") || !matchesAny(a, objectActions) && !matchesAny(a, bucketActions)
	}) {
		return malformedPolicy("Policy has invalid action")
	}
	if json.Unmarshal(fields["Resource"], (*oneOrMany)(&s.resources)) != nil {
		return malformedPolicy("Policy has invalid resource")
	}
	for i, arn := range s.resources {
		pattern, ok := strings.CutPrefix(arn, resourcePrefix)
		rest, ours := strings.CutPrefix(pattern, bucket)
		if !ok || !ours || rest != "" && !strings.Contains("/*?", rest[:1]) || strings.Contains(rest, "${") {
			return malformedPolicy("Policy has invalid resource")
		}
		s.resources[i] = pattern
	}
	if err := s.parseConditions(fields["Condition"]); err != nil {
		return err
	}
	return s.checkLevels()
}

// parsePrincipal reads "*", access keys, or {"AWS": either}.
func (s *policyStatement) parsePrincipal(raw json.RawMessage, known func(string) bool) bool {
	var who oneOrMany
	if json.Unmarshal(raw, &who) != nil {
		var kinds map[string]oneOrMany
		if json.Unmarshal(raw, &kinds) != nil || len(kinds) != 1 || kinds["AWS"] == nil {
			return false
		}
		who = kinds["AWS"]
	}
	if len(who) == 1 && who[0] == "*" {
		s.anyone = true
		return true
	}
	s.who = who
	return !slices.ContainsFunc(who, func(id string) bool { return id == "*" || known != nil && !known(id) })
}

// checkLevels refuses actions on buckets that name only objects, and the reverse.
func (s *policyStatement) checkLevels() error {
	buckets := slices.ContainsFunc(s.resources, func(r string) bool { return !strings.Contains(r, "/") })
	objects := slices.ContainsFunc(s.resources, func(r string) bool { return strings.ContainsAny(r, "/*") })
	for _, a := range s.actions {
		if onObjects := matchesAny(a, objectActions); a != everyAction && (onObjects && !objects || !onObjects && !buckets) {
			return malformedPolicy("Action does not apply to any resource(s) in statement")
		}
	}
	return nil
}

// policyQuestion is what a request wants to do.
type policyQuestion struct {
	who      string // access key; "" of one that is not signed
	action   string
	resource string // BUCKET or BUCKET/KEY
	facts    map[string]string
}

// decide reports whether a statement allows it, and whether one denies it, which
// counts for more.
func (p bucketPolicy) decide(q policyQuestion) (allowed, denied bool) {
	for i := range p {
		if s := &p[i]; s.covers(q) {
			allowed, denied = allowed || !s.deny, denied || s.deny
		}
	}
	return allowed, denied
}

func (s *policyStatement) covers(q policyQuestion) bool {
	return (s.anyone || q.who != "" && slices.Contains(s.who, q.who)) &&
		slices.ContainsFunc(s.actions, func(a string) bool { return glob(a, q.action) }) &&
		slices.ContainsFunc(s.resources, func(r string) bool { return glob(r, q.resource) }) &&
		!slices.ContainsFunc(s.conditions, func(t policyTest) bool { return !t.holds(q.action, q.facts) })
}

// isPublic reports whether something is allowed to everybody.
func (p bucketPolicy) isPublic() bool {
	return slices.ContainsFunc(p, func(s policyStatement) bool { return s.anyone && !s.deny })
}

func matchesAny(pattern string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return glob(pattern, name) })
}

// glob matches s against a pattern in which "*" is any bytes, a slash among them,
// and "?" is one.
func glob(pattern, s string) bool {
	star, from := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, from = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0: // let the last star take one more
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}
