package config

import "path/filepath"

// Vault is coffer-vault.toml: one node of a Backup Key Vault.
type Vault struct {
	Dir           string `toml:"dir"`                      // state of the node: log, ledger, records, identity; 0700. Default $STATE_DIRECTORY
	Listen        string `toml:"listen"`                   // host:port that clients come to (HTTPS)
	RaftListen    string `toml:"raft_listen"`              // host:port that the other nodes come to
	Advertise     string `toml:"advertise,omitempty"`      // host:port of listen as clients see it; default listen
	RaftAdvertise string `toml:"raft_advertise,omitempty"` // host:port of raft_listen as the other nodes see it; default raft_listen
	Name          string `toml:"name,omitempty"`           // of the node, in the manifest; default the last part of dir

	Manifest string   `toml:"manifest,omitempty"` // the fleet's signed manifest; default fleet.cbor in dir
	Roots    []string `toml:"roots,omitempty"`    // fleet root keys to trust, Ed25519, 64 hex digits each; "init" needs none

	HSM     HSM     `toml:"hsm"`
	Auth    Auth    `toml:"auth,omitzero"`
	Log     Log     `toml:"log,omitzero"`
	Metrics Metrics `toml:"metrics,omitzero"`
}

// HSM says how the node reaches its hardware security module.
type HSM struct {
	Module     string `toml:"module"`               // the PKCS#11 library, absolute
	TokenLabel string `toml:"token_label"`          // label of the token
	PINFile    string `toml:"pin_file,omitempty"`   // file, 0600, that holds the user PIN
	Credential string `toml:"credential,omitempty"` // or: name of the systemd credential that holds it
	Durable    bool   `toml:"durable,omitempty"`    // SoftHSM: work on a copy of the token in run_dir, written back only when keys change
	RunDir     string `toml:"run_dir,omitempty"`    // of that copy, on tmpfs; default $RUNTIME_DIRECTORY, else run in dir
}

// Auth says whose registrations and guesses the node accepts.
type Auth struct {
	Mode     string `toml:"mode,omitempty"`      // "open" (anybody; for development), "token" (default: issued by the operator) or "jwt"
	KeyFile  string `toml:"key_file,omitempty"`  // token: file, 0600, that holds the key tokens are made with; default token.key in dir
	Issuer   string `toml:"issuer,omitempty"`    // jwt: the "iss" to accept
	Audience string `toml:"audience,omitempty"`  // jwt: the "aud" to accept
	JWKSFile string `toml:"jwks_file,omitempty"` // jwt: the issuer's public keys (RFC 7517)
}

// LoadVault reads coffer-vault.toml, fills in the defaults and checks every value.
func LoadVault(file string) (*Vault, error) {
	v := new(Vault)
	d, err := decode(file, v)
	if err != nil {
		return nil, err
	}
	v.complete(d)
	if d.err != nil {
		return nil, d.err
	}
	return v, nil
}

func (v *Vault) complete(d *document) {
	orElse(&v.Dir, serviceDir("STATE_DIRECTORY"))
	d.required("dir", v.Dir)
	d.path("dir", &v.Dir)
	orElse(&v.Name, filepath.Base(v.Dir))
	orElse(&v.Manifest, filepath.Join(v.Dir, "fleet.cbor"))
	d.path("manifest", &v.Manifest)
	d.required("listen", v.Listen)
	d.required("raft_listen", v.RaftListen)
	orElse(&v.Advertise, v.Listen)
	orElse(&v.RaftAdvertise, v.RaftListen)
	d.address("listen", v.Listen)
	d.address("raft_listen", v.RaftListen)
	d.address("advertise", v.Advertise)
	d.address("raft_advertise", v.RaftAdvertise)
	d.keys("roots", v.Roots)
	v.HSM.complete(d, v.Dir)
	v.Auth.complete(d, v.Dir)
	v.Log.complete(d)
	v.Metrics.complete(d)
}

func (h *HSM) complete(d *document, dir string) {
	d.required("hsm.module", h.Module)
	d.path("hsm.module", &h.Module)
	d.required("hsm.token_label", h.TokenLabel)
	if len(h.TokenLabel) > 32 {
		d.fail("hsm.token_label", "longer than the 32 bytes that PKCS#11 gives it")
	}
	if (h.PINFile == "") == (h.Credential == "") {
		d.fail("hsm.pin_file", "one of pin_file and credential is needed, not both")
	}
	d.path("hsm.pin_file", &h.PINFile)
	orElse(&h.RunDir, serviceDir("RUNTIME_DIRECTORY"))
	orElse(&h.RunDir, filepath.Join(dir, "run"))
	d.path("hsm.run_dir", &h.RunDir)
}

func (a *Auth) complete(d *document, dir string) {
	orElse(&a.Mode, "token")
	d.oneOf("auth.mode", a.Mode, "open", "token", "jwt")
	switch a.Mode {
	case "token":
		orElse(&a.KeyFile, filepath.Join(dir, "token.key"))
	case "jwt":
		d.required("auth.issuer", a.Issuer)
		d.required("auth.audience", a.Audience)
		d.required("auth.jwks_file", a.JWKSFile)
	}
	d.path("auth.key_file", &a.KeyFile)
	d.path("auth.jwks_file", &a.JWKSFile)
}
