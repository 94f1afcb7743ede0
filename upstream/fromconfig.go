package upstream

import "coffer/internal/config"

// repository is what the names of a backup repository begin with. Its objects are
// written once: those a lock is for.
const repository = "repo/"

// FromConfig is the Config that a configuration file means.
func FromConfig(u config.Upstream, limits *Limits) Config {
	return Config{
		Type: u.Type, Path: u.Path, Endpoint: u.Endpoint, Bucket: u.Bucket, Prefix: u.Prefix, Region: u.Region,
		PathStyle: u.PathStyle, AccessKeyFile: u.AccessKeyFile, SecretKeyFile: u.SecretKeyFile, Class: u.StorageClass,
		TLS: TLS{CAFile: u.CAFile, ClientCert: u.ClientCert, ClientKey: u.ClientKey, Min: u.TLSMin},
		Auth: Auth{
			Type: u.Auth.Type, Profile: u.Auth.Profile, STSEndpoint: u.Auth.STSEndpoint, IAMEndpoint: u.Auth.IAMEndpoint,
			RoleARN: u.Auth.RoleARN, Session: u.Auth.Session, ExternalID: u.Auth.ExternalID, TokenFile: u.Auth.TokenFile,
		},
		Lock:   Lock{Mode: u.Lock.Mode, Days: u.Lock.Days, Prefix: repository},
		Limits: limits,
	}
}

// Windows are those that a configuration file means, for [Limits.Set].
func Windows(limits []config.Limit) []Window {
	var windows []Window
	for _, l := range limits {
		from, to := l.Hours()
		windows = append(windows, Window{From: from, To: to, Upload: int64(l.Upload), Download: int64(l.Download)})
	}
	return windows
}
