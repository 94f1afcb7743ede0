# coffer: "make demo" shows the whole promise, "make test" proves it.
# Both install what they need (Debian packages by apt, Go modules) and say so.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

BIN     := bin
TOOLS   := .cache/bin
GOFLAGS_BUILD := -trimpath -ldflags '-s -w'

# what tests and demo run beside Go and gcc
DEMO_PACKAGES := softhsm2
TEST_PACKAGES := $(DEMO_PACKAGES) acl attr awscli chromium dbus-daemon fish fuse3 iproute2 mandoc poppler-utils prometheus python3-boto3 rclone rpm s3cmd s3fs zbar-tools zsh

unexport AWS_CA_BUNDLE

.PHONY: build
build: ## the three programs, into bin/
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $(BIN)/ ./cmd/coffer ./cmd/cofferd
	CGO_ENABLED=1 go build $(GOFLAGS_BUILD) -o $(BIN)/ ./cmd/coffer-vault

.PHONY: demo
demo: need-demo build ## the story: back up, lose the laptop, recover by password, ten wrong guesses (S3=1: against MinIO)
	$(if $(S3),$(MAKE) --no-print-directory $(TOOLS)/minio)
	go run ./internal/demo -bin $(BIN) $(if $(S3),-minio $(TOOLS)/minio)

.PHONY: test
test: need-test tools check-fast ## everything CI runs
	$(MAKE) --no-print-directory model
	GORACE=atexit_sleep_ms=10 go test -race -timeout 20m $$(go list ./... | grep -v -e /internal/e2e -e /internal/chaos)
	go test -count=1 -timeout 20m ./internal/e2e/... ./internal/chaos/...

.PHONY: check
check: tools check-fast cross ## vet, staticcheck, cross builds

.PHONY: check-fast
check-fast:
	go vet ./...
	$(TOOLS)/staticcheck ./...

.PHONY: cross
cross: ## arm64: the two programs without cgo
	CGO_ENABLED=0 GOARCH=arm64 go build -o /dev/null ./cmd/coffer
	CGO_ENABLED=0 GOARCH=arm64 go build -o /dev/null ./cmd/cofferd

.PHONY: need-demo need-test
need-demo:
	@.ci/need $(DEMO_PACKAGES)
need-test:
	@.ci/need $(TEST_PACKAGES)

# Programs that only tests run, at the versions of tools/go.mod.
.PHONY: tools
tools: $(TOOLS)/cyclonedx-gomod $(TOOLS)/mc $(TOOLS)/minio $(TOOLS)/nfpm $(TOOLS)/restic $(TOOLS)/s5cmd $(TOOLS)/staticcheck

$(TOOLS)/mc: PKG = github.com/minio/mc
$(TOOLS)/minio: PKG = github.com/minio/minio
$(TOOLS)/restic: PKG = github.com/restic/restic/cmd/restic
$(TOOLS)/s5cmd: PKG = github.com/peak/s5cmd/v2
$(TOOLS)/staticcheck: PKG = honnef.co/go/tools/cmd/staticcheck
$(TOOLS)/nfpm: PACKAGE_TOOL = github.com/goreleaser/nfpm/v2/cmd/nfpm
$(TOOLS)/cyclonedx-gomod: PACKAGE_TOOL = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
$(TOOLS)/nfpm $(TOOLS)/cyclonedx-gomod: tools/packaging/go.mod
	@echo "tools: building $(notdir $@) (once; a minute)"
	@mkdir -p $(TOOLS)
	cd tools/packaging && go build -trimpath -buildvcs=false -o ../../$@ $(PACKAGE_TOOL)
$(TOOLS)/rclone: tools/rclone/go.mod
	@echo "tools: building rclone (once; some minutes)"
	@mkdir -p $(TOOLS)
	cd tools/rclone && go build -o ../../$@ github.com/rclone/rclone
$(TOOLS)/%: tools/go.mod
	@echo "tools: building $(PKG) (once; the MinIO server takes some minutes)"
	@mkdir -p $(TOOLS)
	cd tools && go build -o ../$@ $(PKG)

.PHONY: packages
packages: $(TOOLS)/nfpm $(TOOLS)/cyclonedx-gomod ## deb and rpm of coffer and coffer-vault, into dist/ (the same bytes for the same commit)
	TOOLS=$(TOOLS) packaging/build.sh dist

.PHONY: bench-backup
bench-backup: build tools ## coffer against restic over the same MinIO (ARGS="-scale 0.1 -reps 1" for a short look)
	go run ./bench/backup $(ARGS)

.PHONY: bench-gateway
bench-gateway: build tools $(TOOLS)/rclone ## the gateway against rclone serve s3 over crypt, both over MinIO
	go test ./proxy -run '^$$' -bench MillionKeys -benchtime 1x | grep -E '^ratio|^---|^ok|FAIL'
	go run ./bench/gateway $(ARGS)

.PHONY: bench-daemon
bench-daemon: build ## cofferd over 20,000 directories with a million files: start, idle, a save until it is safe (ARGS="-scale 0.05" for a short look)
	go run ./bench/daemon $(ARGS)

FUZZTIME ?= 60s

.PHONY: fuzz
fuzz: ## every fuzz target, FUZZTIME each
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
	  sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file" | while read -r name; do \
	    echo "fuzz: $$(dirname "$$file") $$name"; \
	    go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
	  done || exit 1; \
	done

.PHONY: model
model: ## spin checks the guess budget in all states, and that each guard is needed
	@.ci/need spin
	vault/model/run.sh

.PHONY: chaos
chaos: SEED ?= 1
chaos: DURATION ?= 10m
chaos: NODES ?= 3
chaos: ## a vault fleet under kill -9, pauses, partitions, wrong clocks, full and restored disks (SEED=n DURATION=10m NODES=3)
	@.ci/need softhsm2 iproute2
	go test -count=1 -timeout 0 -v ./internal/chaos -args -seed=$(SEED) -duration=$(DURATION) -nodes=$(NODES)

.PHONY: chaos-backup
chaos-backup: SEED ?= 1
chaos-backup: KILLS ?= 200
chaos-backup: DURATION ?= 10m
chaos-backup: tools ## backup, prune, forget, copy and rekey under kill -9; two writers and a pruner (SEED=n KILLS=200 DURATION=10m)
	go test -count=1 -timeout 0 -v -run TestUnreliableUpstream ./backup -args -rounds=400 -rounds-seed=$(SEED)
	go test -count=1 -timeout 0 -v -run 'TestKilledAtRandom|TestTwoWritersAndPruner' ./internal/e2e -args -seed=$(SEED) -kills=$(KILLS) -duration=$(DURATION)

.PHONY: chaos-gateway
chaos-gateway: SEED ?= 1
chaos-gateway: OPS ?= 10000
chaos-gateway: tools ## the gateway under kill -9, over a folder and over MinIO (SEED=n OPS=10000)
	go test -count=1 -timeout 0 -v -run TestGatewayKilled ./internal/e2e -args -seed=$(SEED) -ops=$(OPS)

.PHONY: chaos-hsm
chaos-hsm: KILLS ?= 500
chaos-hsm: ## kill -9 while SoftHSM logs in, evaluates, stores the anchor, is provisioned, rotates (KILLS=500)
	@.ci/need softhsm2
	COFFER_HSM_KILLS=$(KILLS) go test -count=1 -timeout 0 -v -run Killed ./hsm

.PHONY: bench-vault
bench-vault: ## guesses a second against etcd's puts and compare-and-swaps, and with SoftHSM (ARGS="-each 1s -reps 1" for a short look)
	@.ci/need etcd-server softhsm2
	go run ./bench/vault $(ARGS)

.PHONY: help
help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: clean
clean:
	rm -rf $(BIN) dist
