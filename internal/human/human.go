// Package human writes numbers for people, in one way in the command, the daemon
// and the page.
package human

import "github.com/dustin/go-humanize"

// Size is a number of bytes with two digits that matter and a unit of 1000, as
// those who sell storage count: "512 B", "1.5 kB", "82 MB". Less than none is none.
func Size(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }
