package chaos

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"coffer/vault"
)

// inRealTime checks in linear time what must hold whatever the order: numbers
// are unique and grow with real time, no more are missing than outcomes are
// unknown, at most a budget lies between an attempt and the last proof that can
// have come before it, and nothing is counted after a destruction that no proof
// can have prevented.
func inRealTime(byAccount map[vault.UID][]*op) (problems []string) {
	for uid, ops := range byAccount {
		for _, p := range accountInRealTime(ops) {
			problems = append(problems, fmt.Sprintf("account %x: %s:\n%s", uid[:4], p, describe(ops)))
		}
	}
	return problems
}

func accountInRealTime(ops []*op) (problems []string) {
	var counted []*op
	seen := make(map[uint64]bool)
	var last, unknown uint64
	for _, o := range ops {
		switch {
		case o.kind != opAttempt:
		case !o.known:
			unknown++
		case o.code == vault.CodeOK:
			counted = append(counted, o)
			if seen[o.seq] {
				problems = append(problems, fmt.Sprintf("two attempts have number %d", o.seq))
			}
			seen[o.seq] = true
			last = max(last, o.seq)
		}
	}
	if missing := last - uint64(len(seen)); missing > unknown {
		problems = append(problems, fmt.Sprintf("%d numbers are missing, %d outcomes unknown", missing, unknown))
	}
	problems = append(problems, growing(counted)...)
	for _, o := range counted {
		if p := provenBefore(ops, o.ret); o.seq > p+budget {
			problems = append(problems, fmt.Sprintf("attempt %d was counted, the last proof before can be of %d", o.seq, p))
		}
		if destroyedBefore(ops, o.call) {
			problems = append(problems, fmt.Sprintf("attempt %d was counted after the end", o.seq))
		}
	}
	return problems
}

// growing checks that what was asked after an answer has a higher number.
func growing(counted []*op) (problems []string) {
	byCall := slices.SortedFunc(slices.Values(counted), func(a, b *op) int { return cmp.Compare(a.call, b.call) })
	byReturn := slices.SortedFunc(slices.Values(counted), func(a, b *op) int { return cmp.Compare(a.ret, b.ret) })
	var highest uint64
	for _, o := range byCall {
		for len(byReturn) > 0 && byReturn[0].ret < o.call {
			highest = max(highest, byReturn[0].seq)
			byReturn = byReturn[1:]
		}
		if o.seq <= highest {
			problems = append(problems, fmt.Sprintf("attempt %d was asked for after %d was answered", o.seq, highest))
		}
	}
	return problems
}

// provenBefore is the highest number that a proof or a signed registration, sent
// before the time, can have restored.
func provenBefore(ops []*op, at int64) (highest uint64) {
	for _, o := range ops {
		if o.call >= at || o.known && o.code != vault.CodeOK {
			continue
		}
		switch {
		case o.kind == opProve:
			highest = max(highest, o.seq)
		case o.kind == opCommit && o.proven:
			for _, t := range ops {
				if t.kind == opAttempt && t.known && t.call < o.ret {
					highest = max(highest, t.seq)
				}
			}
		}
	}
	return highest
}

// destroyedBefore says that the account was answered to be destroyed before the
// time, and no proof was under way then or later.
func destroyedBefore(ops []*op, at int64) bool {
	first := int64(math.MaxInt64)
	for _, o := range ops {
		if o.known && o.code == vault.CodeDestroyed {
			first = min(first, o.ret)
		}
	}
	if first >= at {
		return false
	}
	for _, o := range ops {
		if (o.kind == opProve || o.proven) && o.ret >= first && (!o.known || o.code == vault.CodeOK) {
			return false
		}
	}
	return true
}

// describe prints a history for people.
func describe(ops []*op) string {
	var b strings.Builder
	names := [...]string{opAttempt: "attempt", opProve: "prove", opCommit: "commit"}
	for _, o := range ops {
		answer := "unknown"
		if o.known {
			answer = o.code.String()
		}
		fmt.Fprintf(&b, "  %-7s %x sent %d seq %d left %d proven %v: %s [%.3f, %.3f]\n", names[o.kind], o.id[:4], o.sent, o.seq, o.left, o.proven,
			answer, float64(o.call)/1e9, float64(o.ret)/1e9)
	}
	return b.String()
}
