package upstream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// findCredentials takes the key from the first place of Config that has one.
func findCredentials(c Config) (*credentials.Credentials, error) {
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
	case os.Getenv("AWS_ACCESS_KEY_ID") != "" && os.Getenv("AWS_SECRET_ACCESS_KEY") != "":
		return credentials.NewStaticV4(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")), nil
	}
	file := os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	if home, err := os.UserHomeDir(); file == "" && err == nil {
		file = filepath.Join(home, ".aws", "credentials")
	}
	if _, err := os.Stat(file); err == nil {
		return credentials.NewFileAWSCredentials(file, ""), nil
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
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(b))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s: want one line", path)
	}
	return line, nil
}
