// Package coffer is the root of an end-to-end encrypted backup system: a daemon
// that watches directories and seals what changes for storage nobody trusts, an
// S3 endpoint that seals whatever other programs put there, and a vault that
// keeps the backup key behind a password which cannot be guessed offline.
//
// Begin reading with docs/ARCHITECTURE.md, then seal/FORMAT.md (one encrypted
// object), backup/FORMAT.md (the repository) and vault/PROTOCOL.md (the vault).
package coffer

import "runtime/debug"

// version is set by the build: -ldflags "-X coffer.version=1.2.3".
var version string

// Version says which release the three programs are built from: the version set
// by the build, else the version control revision, else "devel".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
