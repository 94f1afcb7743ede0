package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// policy is what the signer of an upload form allows.
type policy struct {
	expiration time.Time
	conditions []policyCondition
	minSize    int64 // of the file, in bytes
	maxSize    int64
}

// policyCondition is a demand on one field.
type policyCondition struct {
	field  string // lower case
	value  string
	prefix bool   // starts-with
	text   string // as it stood in the policy
}

// parsePolicy reads the base64 JSON of a policy.
func parsePolicy(document string) (*policy, error) {
	raw, err := decodePolicy(document)
	if err != nil {
		return nil, err
	}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(raw, &in); err != nil || in == nil {
		return nil, badPolicy("Invalid JSON.")
	}
	p := &policy{maxSize: maxObjectPut}
	for name := range in {
		if name != "expiration" && name != "conditions" {
			return nil, badPolicy("Unexpected: %q", name)
		}
	}
	if in["expiration"] == nil {
		return nil, badPolicy("Policy missing expiration.")
	}
	var expiration string
	if err := json.Unmarshal(in["expiration"], &expiration); err != nil {
		return nil, badPolicy("Invalid JSON.")
	}
	if p.expiration, err = time.Parse(time.RFC3339, expiration); err != nil {
		return nil, badPolicy("Invalid 'expiration' value: '%s'", expiration)
	}
	if in["conditions"] == nil {
		return nil, badPolicy("Policy missing conditions.")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(in["conditions"], &list); err != nil {
		return nil, badPolicy("Invalid 'conditions' value: must be a List.")
	}
	for _, condition := range list {
		if err := p.add(condition); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add reads one condition: {"field": "value"} or ["operation", ...].
func (p *policy) add(raw json.RawMessage) error {
	switch raw = bytes.TrimSpace(raw); {
	case len(raw) > 0 && raw[0] == '{':
		var simple map[string]any
		if err := json.Unmarshal(raw, &simple); err != nil || len(simple) != 1 {
			return badPolicy("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
		}
		for name, value := range simple {
			s, ok := value.(string)
			if !ok {
				return badPolicy("Invalid Simple-Condition: value must be a string.")
			}
			p.conditions = append(p.conditions, policyCondition{
				field: strings.ToLower(name), value: s, text: fmt.Sprintf(`["eq", "$%s", "%s"]`, name, s),
			})
		}
		return nil
	case len(raw) > 0 && raw[0] == '[':
		var list []any
		if err := json.Unmarshal(raw, &list); err != nil {
			return badPolicy("Invalid JSON.")
		}
		var text bytes.Buffer
		_ = json.Compact(&text, raw) // it was decoded just now
		return p.addOperation(list, text.String())
	}
	return badPolicy("Invalid condition test: must be a List or Object.")
}

func (p *policy) addOperation(list []any, text string) error {
	if len(list) == 0 {
		return badPolicy("Invalid Condition: missing operation identifier.")
	}
	operation, ok := list[0].(string)
	if !ok {
		return badPolicy("Invalid Condition: missing operation identifier.")
	}
	switch strings.ToLower(operation) {
	case "eq", "starts-with":
		if len(list) != 3 {
			return badPolicy("Invalid %s: wrong number of arguments.", operation)
		}
		name, ok1 := list[1].(string)
		value, ok2 := list[2].(string)
		if !ok1 || !ok2 {
			return badPolicy("Invalid JSON.")
		}
		field, isField := strings.CutPrefix(strings.ToLower(name), "$")
		if !isField {
			field = "" // which no form has: the condition fails
		}
		p.conditions = append(p.conditions, policyCondition{field: field, value: value, prefix: strings.EqualFold(operation, "starts-with"), text: text})
	case "content-length-range":
		if len(list) != 3 {
			return badPolicy("Invalid %s: wrong number of arguments.", operation)
		}
		least, ok1 := size(list[1])
		most, ok2 := size(list[2])
		if !ok1 || !ok2 {
			return badPolicy("Invalid JSON.")
		}
		p.minSize, p.maxSize = max(p.minSize, least), min(p.maxSize, most)
	default:
		return badPolicy("Invalid Condition: unknown operation '%s'.", operation)
	}
	return nil
}

// size reads a number of bytes, which forms write as a number or a string.
func size(v any) (int64, bool) {
	switch v := v.(type) {
	case float64:
		return int64(v), v >= 0 && v <= math.MaxInt64/2 && v == math.Trunc(v)
	case string:
		n, err := strconv.ParseInt(v, 10, 62)
		return n, err == nil && n >= 0
	}
	return 0, false
}

// holds reports whether the field may have this value. Of a list of content types
// each must begin as demanded.
func (c *policyCondition) holds(value string) bool {
	if !c.prefix {
		return value == c.value
	}
	values := []string{value}
	if c.field == "content-type" && value != "" {
		values = splitList(value)
	}
	return !slices.ContainsFunc(values, func(v string) bool { return !strings.HasPrefix(v, c.value) })
}

// check holds the fields of a form against the policy: each condition must hold,
// and each field must be named by one.
func (p *policy) check(bucket string, form map[string]string, now time.Time) error {
	denied := func(format string, args ...any) error {
		return errAccessDenied.saying("Invalid according to Policy: "+format, args...)
	}
	if now.After(p.expiration) {
		return denied("Policy expired.")
	}
	named := map[string]bool{"x-amz-signature": true, "file": true, "policy": true}
	for _, c := range p.conditions {
		named[c.field] = true
		value := form[c.field]
		if c.field == "bucket" {
			value = bucket
		}
		if !c.holds(value) {
			return denied("Policy Condition failed: %s", c.text)
		}
	}
	if !named["bucket"] {
		return denied("Extra input fields: bucket")
	}
	for _, name := range sortedNames(form) {
		if !named[name] && !strings.HasPrefix(name, "x-ignore-") {
			return denied("Extra input fields: %s", name)
		}
	}
	return nil
}
