// Package e2e has no code of its own: its tests build the three programs and use
// them as their users would, over real SoftHSM tokens, a real MinIO server, real
// S3 clients and a real systemd. They run with -count=1, as go test does not see
// what a child process reads.
package e2e
