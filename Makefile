# SPDX-License-Identifier: Apache-2.0
#
# Two commands do everything: `make image` and `make test`. Neither needs root, and neither
# needs anything but Go, git, make and a network on the first run.

SHELL        := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO           ?= go
OUT          := out
ARCH         ?= amd64
PROFILE      ?= controlplane
IMAGE        := $(OUT)/$(PROFILE)-$(ARCH).raw
VERSION      := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS      := -s -w -X github.com/imgbuild/imgbuild/builder/cli.Version=$(VERSION)
GOBUILD      := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false
# Programs of the machine are never used; what is not Go comes from locked packages.
TOOLS         = $$($(OUT)/imgbuild tool path verify)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: image
image: $(OUT)/imgbuild $(OUT)/firstboot ## build out/imgbuild, out/firstboot and the node image (PROFILE=controlplane)
	$(OUT)/imgbuild --profile $(PROFILE)

.PHONY: $(OUT)/imgbuild
$(OUT)/imgbuild:
	@mkdir -p $(OUT)
	$(GOBUILD) -ldflags '$(LDFLAGS)' -o $@ ./builder/cmd/imgbuild

.PHONY: $(OUT)/firstboot
$(OUT)/firstboot: $(OUT)/imgbuild
	$(OUT)/imgbuild component firstboot --output $@

.PHONY: lint
lint: ## formatting, go vet, staticcheck
	@unformatted=$$(gofmt -l builder firstboot assets profiles scripts test); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: test
test: ## lint, every test, boot the image and prove it Ready
	scripts/test all

.PHONY: unit
unit: $(OUT)/imgbuild ## lint and the tests that need no virtual machine
	scripts/test unit

.PHONY: components
components: $(OUT)/imgbuild ## first boot against the real etcd and control plane, without a virtual machine
	scripts/test components

.PHONY: e2e
e2e: image ## the boot tests, the long ones included
	IMGBUILD_E2E_LONG=1 scripts/test e2e

.PHONY: bench
bench: image ## the benchmarks, as JSON and as a table (long)
	scripts/bench

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s) each
	scripts/fuzz

.PHONY: generate
generate: ## rewrite generated reference pages and goldens
	$(GO) generate ./...

.PHONY: clean
clean: ## remove out/ (the cache stays: see imgbuild cache)
	rm -rf $(OUT)
