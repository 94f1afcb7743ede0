package upstream

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Auth says where the key for S3 comes from.
type Auth struct {
	Type        string // "keys" or empty, "iam", "web-identity", "assume-role" or "anonymous"
	Profile     string // keys, assume-role: of ~/.aws/credentials
	STSEndpoint string // web-identity, assume-role; empty means https://sts.amazonaws.com
	IAMEndpoint string // iam; empty means that of the machine, container or pod
	RoleARN     string
	Session     string // assume-role; empty means "coffer"
	ExternalID  string // assume-role
	TokenFile   string // web-identity
}

// findCredentials returns the key that c means. Keys that do not last are asked
// for when they are first needed, and again before they end.
func findCredentials(c Config) (*credentials.Credentials, error) {
	sts := cmp.Or(c.Auth.STSEndpoint, "https://sts.amazonaws.com")
	switch c.Auth.Type {
	case "", "keys":
		return findKeys(c)
	case "anonymous":
		return credentials.NewStatic("", "", "", credentials.SignatureAnonymous), nil
	case "iam":
		return credentials.NewIAM(c.Auth.IAMEndpoint), nil
	case "web-identity":
		return credentials.NewSTSWebIdentity(sts, func() (*credentials.WebIdentityToken, error) {
			token, err := readLine(c.Auth.TokenFile)
			if err != nil {
				return nil, fmt.Errorf("token: %w", err)
			}
			return &credentials.WebIdentityToken{Token: token}, nil
		}, func(i *credentials.STSWebIdentity) {
			i.RoleARN = c.Auth.RoleARN
		})
	case "assume-role":
		keys, err := findKeys(c)
		if err != nil {
			return nil, err
		}
		own, err := keys.GetWithContext(nil)
		if err != nil {
			return nil, err
		}
		return credentials.NewSTSAssumeRole(sts, credentials.STSAssumeRoleOptions{
			AccessKey: own.AccessKeyID, SecretKey: own.SecretAccessKey, SessionToken: own.SessionToken, Location: c.Region,
			RoleARN: c.Auth.RoleARN, RoleSessionName: cmp.Or(c.Auth.Session, "coffer"), ExternalID: c.Auth.ExternalID,
		})
	}
	return nil, fmt.Errorf("auth %q, want keys, iam, web-identity, assume-role or anonymous", c.Auth.Type)
}

// findKeys takes the key from the first place of Config that has one.
func findKeys(c Config) (*credentials.Credentials, error) {
	switch {
	case c.AccessKey != "" || c.SecretKey.Reveal() != "":
		if c.AccessKey == "" || c.SecretKey.Reveal() == "" {
			return nil, errors.New("an access key needs a secret key, and the other way round")
		}
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey.Reveal(), ""), nil
	case c.AccessKeyFile != "" || c.SecretKeyFile != "":
		access, err := readLine(c.AccessKeyFile)
		if err != nil {
			return nil, fmt.Errorf("access key: %w", err)
		}
		secret, err := readLine(c.SecretKeyFile)
		if err != nil {
			return nil, fmt.Errorf("secret key: %w", err)
		}
		return credentials.NewStaticV4(access, secret, ""), nil
	case c.Auth.Profile == "" && os.Getenv("AWS_ACCESS_KEY_ID") != "" && os.Getenv("AWS_SECRET_ACCESS_KEY") != "":
		return credentials.NewStaticV4(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")), nil
	}
	file := os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	if home, err := os.UserHomeDir(); file == "" && err == nil {
		file = filepath.Join(home, ".aws", "credentials")
	}
	if _, err := os.Stat(file); err == nil {
		return credentials.NewFileAWSCredentials(file, c.Auth.Profile), nil
	}
	return nil, errors.New("no access key: neither in the configuration, nor in AWS_ACCESS_KEY_ID, nor in ~/.aws/credentials")
}

// readLine reads a file of one short line.
func readLine(path string) (string, error) {
	if path == "" {
		return "", errors.New("no file given")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 16<<10)) // tokens are long
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(b))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s: want one line", path)
	}
	return line, nil
}
