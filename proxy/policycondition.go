package proxy

import (
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// policyTest is one condition of a statement: of the fact, one of the values must
// hold, or with not none of them.
type policyTest struct {
	fact   string // lower case
	not    bool
	same   func(value, fact string) bool
	values []string
}

// conditionTests are the operators that are enforced; "Not" is within the name.
var conditionTests = map[string]func(value, fact string) bool{
	"StringEquals":           func(v, f string) bool { return v == f },
	"StringEqualsIgnoreCase": strings.EqualFold,
	"StringLike":             glob,
	"Bool":                   strings.EqualFold,
	"IpAddress":              isWithin,
}

// conditionOperators are all that S3 knows, without IfExists, ForAllValues and the like.
var conditionOperators = []string{
	"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike",
	"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals",
	"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals",
	"Bool", "BinaryEquals", "IpAddress", "NotIpAddress", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "Null",
}

// conditionKeys are the facts that a condition can be about, and the actions that
// have them; nil: all.
var conditionKeys = map[string][]string{
	"aws:sourceip": nil, "aws:securetransport": nil, "aws:useragent": nil, "aws:referer": nil, "aws:username": nil,
	"s3:prefix": {"s3:ListBucket", "s3:ListBucketVersions"}, "s3:delimiter": {"s3:ListBucket", "s3:ListBucketVersions"},
	"s3:max-keys":  {"s3:ListBucket", "s3:ListBucketVersions"},
	"s3:x-amz-acl": {"s3:PutObject", "s3:PutObjectAcl", "s3:PutBucketAcl"},
	"s3:versionid": {
		"s3:GetObjectVersion", "s3:DeleteObjectVersion", "s3:GetObjectVersionAttributes", "s3:GetObjectVersionTagging",
		"s3:PutObjectVersionTagging", "s3:DeleteObjectVersionTagging",
	},
}

// parseConditions reads {operator: {key: values}}, of which all must hold.
func (s *policyStatement) parseConditions(raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	var in map[string]map[string]oneOrMany
	if json.Unmarshal(raw, &in) != nil {
		return malformedPolicy("This policy contains invalid Json")
	}
	if len(in) == 0 {
		return malformedPolicy("Condition is empty")
	}
	for _, operator := range slices.Sorted(maps.Keys(in)) {
		_, bare, qualified := strings.Cut(operator, ":")
		if !qualified {
			bare = operator
		}
		bare, optional := strings.CutSuffix(bare, "IfExists")
		if !slices.Contains(conditionOperators, bare) || optional && bare == "Null" ||
			qualified && !strings.HasPrefix(operator, "ForAllValues:") && !strings.HasPrefix(operator, "ForAnyValue:") {
			return malformedPolicy("Invalid Condition type : %s", operator)
		}
		if len(in[operator]) == 0 {
			return malformedPolicy("Condition type %s is empty", operator)
		}
		for _, key := range slices.Sorted(maps.Keys(in[operator])) {
			t := policyTest{fact: strings.ToLower(key), values: in[operator][key], not: strings.Contains(bare, "Not")}
			if err := s.checkCondition(t, strings.HasSuffix(bare, "IpAddress")); err != nil {
				return err
			}
			var ok bool
			if t.same, ok = conditionTests[strings.Replace(bare, "Not", "", 1)]; !ok || optional || qualified {
				return malformedPolicy("Condition type %s is not implemented", operator)
			}
			s.conditions = append(s.conditions, t)
		}
	}
	return nil
}

// checkCondition refuses a test that could never be made. ofNetwork says that its
// values are networks, as only those for aws:SourceIp can be.
func (s *policyStatement) checkCondition(t policyTest, ofNetwork bool) error {
	of, ok := conditionKeys[t.fact]
	if !ok || ofNetwork && t.fact != "aws:sourceip" {
		return malformedPolicy("Policy has an invalid condition key")
	}
	if of != nil && slices.ContainsFunc(s.actions, func(a string) bool { return !strings.ContainsAny(a, "*?") && !slices.Contains(of, a) }) {
		return malformedPolicy("Conditions do not apply to combination of actions and resources in statement")
	}
	for _, v := range t.values {
		network, ok := parseNetwork(v)
		if t.fact == "aws:sourceip" && (!ok || !ofNetwork && v != network.Addr().String()) { // as text it has to be as policyFacts writes it
			return malformedPolicy("Invalid IP address in Conditions")
		}
		if strings.Contains(v, "${") {
			return malformedPolicy("Policy variables are not implemented: %s", v)
		}
	}
	return nil
}

// holds makes the test for a request that wants to do action. A fact that is not
// there, or that this action does not have, is like no value.
func (t *policyTest) holds(action string, facts map[string]string) bool {
	fact, ok := facts[t.fact]
	ok = ok && (conditionKeys[t.fact] == nil || slices.Contains(conditionKeys[t.fact], action))
	return t.not != (ok && slices.ContainsFunc(t.values, func(v string) bool { return t.same(v, fact) }))
}

// parseNetwork reads an address, which is a network of one, or a network. Those of
// IPv4 within IPv6 become IPv4, as the addresses of requests do.
func parseNetwork(s string) (n netip.Prefix, ok bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), a.Zone() == ""
	}
	n, err := netip.ParsePrefix(s)
	if err == nil && n.Addr().Is4In6() {
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n, err == nil && n.IsValid()
}

// isWithin reports whether an address is the given one, or in that network.
func isWithin(network, address string) bool {
	a, err := netip.ParseAddr(address)
	n, ok := parseNetwork(network)
	return err == nil && ok && n.Contains(a)
}

// policyFacts are what conditions are held against.
func policyFacts(rq *request) map[string]string {
	facts := map[string]string{"aws:securetransport": strconv.FormatBool(rq.TLS != nil)}
	if host, _, err := net.SplitHostPort(rq.RemoteAddr); err == nil {
		if a, err := netip.ParseAddr(host); err == nil {
			facts["aws:sourceip"] = a.Unmap().WithZone("").String()
		}
	}
	if !rq.who.anonymous {
		facts["aws:username"] = rq.who.key.ID
	}
	for fact, name := range map[string]string{"aws:useragent": "User-Agent", "aws:referer": "Referer", "s3:x-amz-acl": "X-Amz-Acl"} {
		if v := rq.Header.Values(name); len(v) > 0 {
			facts[fact] = v[0]
		}
	}
	for fact, name := range map[string]string{"s3:prefix": "prefix", "s3:delimiter": "delimiter", "s3:max-keys": "max-keys", "s3:versionid": "versionId"} {
		if rq.query.Has(name) {
			facts[fact] = rq.query.Get(name)
		}
	}
	return facts
}
