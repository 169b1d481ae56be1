# `make help` lists what there is. CI runs `make check` and nothing else.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X tellergate/internal/build.Version=$(VERSION)
BIN         := bin
DIST        := dist
PLATFORMS   := linux/amd64 linux/arm64 linux/loong64 linux/mips64le
STATICCHECK := $(BIN)/staticcheck
FUZZTIME    ?= 10s
BENCHTIME   ?= 1s
PACKAGES    ?= ./...

# What the tests need besides Go. Installed by `make deps` where the machine lacks it; what measuring needs, by `make bench`.
DEBIAN_PACKAGES := curl openssl procps redis-server redis-sentinel redis-tools etcd-server iproute2 util-linux

# The Kubernetes API server and controllers that tests run against: built once, kept outside the tree.
KUBE_VERSION    := v1.35.0
TELLERGATE_CACHE ?= $(HOME)/.cache/tellergate
KUBE            := $(TELLERGATE_CACHE)/kube-$(KUBE_VERSION)
export TELLERGATE_CACHE

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build tellergate, tgctl and the quickstart into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/tellergate ./cmd/tgctl ./deploy/quickstart

.PHONY: run
run: build ## start tellergate with a demonstration service and print a tour (ARGS='--frontend … --admin …')
	@exec $(BIN)/quickstart --bin $(BIN) $(ARGS)

.PHONY: deps
deps: ## install the Debian packages that the tests need
	@missing=; for p in $(DEBIAN_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		sudo=; if [ "$$(id -u)" -ne 0 ]; then sudo=sudo; fi; \
		echo "installing$$missing"; $$sudo apt-get update -qq; $$sudo apt-get install -y -qq $$missing >/dev/null; \
	fi

.PHONY: kube
kube: $(KUBE)/kube-controller-manager ## build the Kubernetes API server that tests need into TELLERGATE_CACHE (minutes, once)

$(KUBE)/kube-controller-manager:
	mkdir -p $(KUBE)
	@echo "building the Kubernetes API server $(KUBE_VERSION) and its controllers, once: some minutes"
	cd internal/kubetest/kube && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(KUBE)/new/ \
		k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager
	mv $(KUBE)/new/kube-apiserver $(KUBE)/new/kube-controller-manager $(KUBE)/
	rmdir $(KUBE)/new

.PHONY: doctor
doctor: ## say what of the tests' needs this machine has
	@for p in etcd ip unshare curl; do command -v $$p >/dev/null && echo "ok       $$p" || echo "missing  $$p: make deps"; done
	@for p in kube-apiserver kube-controller-manager; do \
		[ -x $(KUBE)/$$p ] && echo "ok       $$p $(KUBE_VERSION)" || echo "missing  $$p $(KUBE_VERSION): make kube"; done
	@why=$$(unshare $$([ $$(id -u) -eq 0 ] || echo -r) -nm ip link set lo up 2>&1) \
		&& echo "ok       network and mount namespaces$$([ $$(id -u) -eq 0 ] || echo ', without root')" \
		|| echo "missing  network and mount namespaces ($$why): run as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"

.PHONY: test
test: deps kube ## run every test with the race detector, shuffled; the data plane's again as it is shipped, and over TLS
	$(GO) test -race -shuffle=on -timeout 20m $(PACKAGES)
	$(GO) test -timeout 5m ./proxy/...
	$(GO) test -race -timeout 5m -run Test ./proxy -tls

.PHONY: test-faults
test-faults: deps kube ## the fault matrices: an API server, a Redis, a Sentinel, a Cluster that fail under load
	TELLERGATE_LONG=1 $(GO) test -count=1 -timeout 60m -p 1 -v ./internal/kubetest ./cmd/tellergate/faults

.PHONY: check
check: ## what CI runs: formatting, vet, staticcheck, generated files, tests, short fuzzing, smoke run
	@bash .ci/stages

.PHONY: format
format: ## fail if a file is not formatted
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "not formatted (run gofmt -w):"; echo "$$bad"; exit 1; fi

.PHONY: vet
vet: ## go vet, and go.mod is tidy
	$(GO) vet ./...
	$(GO) mod tidy -diff

.PHONY: lint
lint: $(STATICCHECK) ## staticcheck, configured in staticcheck.conf
	$(STATICCHECK) ./...

$(STATICCHECK): tools/go.mod
	cd tools && GOBIN=$(abspath $(BIN)) $(GO) install honnef.co/go/tools/cmd/staticcheck

.PHONY: generated
generated: ## fail if a generated file is out of date
	$(GO) run ./internal/architecture/notices -check THIRD_PARTY_NOTICES

.PHONY: generate
generate: ## renew the generated files
	$(GO) run ./internal/architecture/notices THIRD_PARTY_NOTICES
	$(GO) test ./admin -run 'OpenAPI' -update

.PHONY: fuzz
fuzz: ## run every fuzz test for FUZZTIME each
	@bash .ci/fuzz $(FUZZTIME)

.PHONY: fuzz-long
fuzz-long: ## run every fuzz test for ten minutes each
	@bash .ci/fuzz 10m

.PHONY: rules-long
rules-long: ## hold rules, index and analysis to the reference on many random documents (minutes)
	TELLERGATE_DOCUMENTS=50000 $(GO) test ./rules -run 'TestIndexFinds|TestAgainstReference' -timeout 60m -v
	TELLERGATE_DOCUMENTS=2000 $(GO) test ./rules -run 'TestAnalysisIsSound' -timeout 60m -v

.PHONY: smoke
smoke: build ## start what `make run` starts, walk the tour, stop
	$(BIN)/quickstart --bin $(BIN) --frontend 127.0.0.1:0 --admin 127.0.0.1:0 --walk

.PHONY: bench
bench: bench-deps ## measure side by side with HAProxy and nginx, half an hour on a quiet machine (ARGS='-scenarios small')
	$(GO) run ./bench -commit $(VERSION) $(ARGS)

.PHONY: bench-quick
bench-quick: bench-deps ## a minute of the same, compared with the committed result
	$(GO) run ./bench -commit $(VERSION) -quick $(ARGS)

.PHONY: bench-readme
bench-readme: ## put the table of the result in bench/results into the READMEs
	$(GO) run ./bench -readme

.PHONY: bench-http
bench-http: build bench-deps ## what bodies of 1 GiB, stalled uploads, slow headers and stale connections cost, beside HAProxy
	$(GO) run ./bench/http1 -bin $(BIN)/tellergate

.PHONY: bench-deps
bench-deps:
	@$(MAKE) --no-print-directory deps DEBIAN_PACKAGES='haproxy nginx redis-server'

.PHONY: bench-code
bench-code: ## run the benchmarks beside the code
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(PACKAGES)

.PHONY: dist
dist: generated ## static binaries for every platform, with checksums and notices, into dist/
	rm -rf $(DIST)
	for platform in $(PLATFORMS); do \
		name=tellergate-$(VERSION)-$${platform/\//-}; mkdir -p $(DIST)/$$name; \
		echo "building $$name"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -trimpath -ldflags '$(LDFLAGS)' \
			-o $(DIST)/$$name/ ./cmd/tellergate ./cmd/tgctl; \
		cp README.md README.zh-CN.md CHANGELOG.md THIRD_PARTY_NOTICES config/default.yaml $(DIST)/$$name/; \
		tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='2026-01-01' -C $(DIST) -czf $(DIST)/$$name.tar.gz $$name; \
	done
	cd $(DIST) && sha256sum *.tar.gz > SHA256SUMS

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) $(DIST)
