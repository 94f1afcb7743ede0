package main

import (
	"reflect"

	"coffer/backup"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/seal"
)

// What the commands that do one thing print with --json. The schemas of all
// answers are in docs/json, made from these types and their comments.

// setUp is the answer of "setup" and of "recover".
type setUp struct {
	Config   string           `json:"config"`    // the file that was written
	StateDir string           `json:"state_dir"` // where the key and the daemon's state lie
	Store    seal.StoreID     `json:"store"`     // 32 hex digits
	KeyID    string           `json:"key_id"`    // 16 hex digits, public
	Methods  []keyring.Method `json:"methods"`   // how the key is kept
}

// restored is the answer of "restore".
type restored struct {
	Snapshot string        `json:"snapshot"` // its whole id
	To       string        `json:"to"`       // the folder
	Report   backup.Report `json:"report"`
}

// keyShown is the answer of "key show". It is the one answer that holds the key.
type keyShown struct {
	Digits string       `json:"digits"` // the 64 digits in groups of four
	Store  seal.StoreID `json:"store"`  // 32 hex digits
	KeyID  string       `json:"key_id"` // 16 hex digits, public
}

// passwordChanged is the answer of "password change".
type passwordChanged struct {
	Left     int      `json:"attempts_left"` // wrong guesses before the vault destroys its key
	Degraded []string `json:"degraded"`      // nodes of the vault that take no part
}

// passwordVerified is the answer of "password verify".
type passwordVerified struct {
	OK      bool `json:"ok"`
	Counted bool `json:"counted"` // whether an attempt was spent
}

// sheetMade is the answer of "recovery sheet".
type sheetMade struct {
	File string `json:"file"` // the PDF, which holds the key
}

// digitsVerified is the answer of "recovery verify".
type digitsVerified struct {
	OK bool `json:"ok"`
}

// switchedOff is the answer of "off".
type switchedOff struct {
	Config    string       `json:"config"`    // where the configuration lies now
	Store     seal.StoreID `json:"store"`     // 32 hex digits
	Upstreams []string     `json:"upstreams"` // what still holds the backups
}

// configChecked is the answer of "config check".
type configChecked struct {
	Config string `json:"config"` // the file
	OK     bool   `json:"ok"`
}

// configShown is the answer of "config show".
type configShown struct {
	Config   string           `json:"config"`      // the file
	From     string           `json:"config_from"` // "--config", "$COFFER_CONFIG" or "default"
	Settings []config.Setting `json:"settings"`
}

// s3KeyAdded is the answer of "s3 key add".
type s3KeyAdded struct {
	AccessKey  string `json:"access_key"`
	SecretFile string `json:"secret_file"` // the file that holds the secret, 0600
}

// pageLink is the answer of "web".
type pageLink struct {
	URL string `json:"url"` // works once, within five minutes
}

// versionShown is the answer of "version".
type versionShown struct {
	Version string `json:"version"`
}

// fillLists makes what v points to print [] where a list is nil: who reads it
// need not know two ways of saying "none".
func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		fillLists(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fillLists(f)
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	}
}
