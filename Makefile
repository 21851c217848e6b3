# CI runs only what stands here: .ci/run ends with `make verify`.

TOOL     := go tool -modfile=tools/go.mod
GOTEST   := $(TOOL) gotestsum --format pkgname-and-test-fails --
FUZZTIME ?= 20s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile everything, and the program to bin/dunlin
	go build ./...
	go build -trimpath -o bin/dunlin ./cmd/dunlin

.PHONY: test
test: ## unit tests, without test/: seconds
	go test $$(go list ./... | grep -v '^dunlin/test')

.PHONY: integration
integration: ## the black-box tests; a missing client program is a failure
	REQUIRE_INTEGRATION=1 go test -timeout 20m ./test/...

.PHONY: race
race: ## all tests with the race detector; a missing client program is a failure
	REQUIRE_INTEGRATION=1 $(GOTEST) -race -timeout 30m ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (20s, or a number of runs as in 10000x)
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: gobench
gobench: ## the Go benchmarks, with allocations
	go test -run '^$$' -bench . -benchmem ./...

# bin/ is where bench-peers puts its program; mosquitto is in sbin on Debian.
BENCHPATH := $(CURDIR)/bin:$(PATH):$(shell go env GOPATH)/bin:/usr/sbin
RESULTS   ?= bin/bench-results.jsonl

.PHONY: bench
bench: export SCENARIOS := $(SCENARIOS)
bench: export ROUNDS := $(ROUNDS)
bench: export DURATION := $(DURATION)
bench: export PATH := $(BENCHPATH)
bench: build ## load dunlin and the peers that are there (SCENARIOS, ROUNDS=3, DURATION=3s), print the tables; results to RESULTS
	go build -trimpath -o bin/bench ./test/bench
	test/bench/compare.sh bin/bench $(RESULTS)

.PHONY: bench-docs
bench-docs: ## write the summary of the last "make bench" into docs/PERFORMANCE.md
	go run ./test/bench summary -into docs/PERFORMANCE.md $(RESULTS)

.PHONY: nats-server
nats-server:
	go build -modfile=tools/go.mod -o bin/nats-server github.com/nats-io/nats-server/v2

.PHONY: bench-peers
bench-peers: nats-server ## install the peers of "make bench": nats-server to bin/; mosquitto is for the distribution to install
	@PATH="$(BENCHPATH)" command -v mosquitto || echo "mosquitto is missing; on Debian: apt-get install mosquitto"

.PHONY: cluster-up
cluster-up: build nats-server ## three NATS servers and three brokers on loopback; data and logs in CLUSTER_DATA, ports from CLUSTER_PORT on
	scripts/cluster.sh up

.PHONY: cluster-down
cluster-down: ## end exactly these processes; the data stays
	scripts/cluster.sh down

.PHONY: kill9
kill9: ## kill -9 of the broker under load, ROUNDS times (50) in each durability, or in DURABILITY=fsync alone
	REQUIRE_INTEGRATION=1 DUNLIN_KILL9_ROUNDS=$(or $(ROUNDS),50) go test -count=1 -timeout 60m -v -run 'Kill9/$(DURABILITY)' ./test/faults

.PHONY: nats-soak
nats-soak: ## restart the servers of a NATS cluster under load, for LENGTH (10m): nothing acknowledged is lost
	DUNLIN_NATS_SOAK=$(or $(LENGTH),10m) go test -count=1 -timeout 60m -v -run NATSServersComeAndGo ./test/faults

.PHONY: cluster-soak
cluster-soak: ## three nodes on three NATS servers, all of which fail in turn, for CLUSTER_SOAK_DURATION (30m), again with SEED: nothing acknowledged is lost
	DUNLIN_CLUSTER_SOAK=$(or $(CLUSTER_SOAK_DURATION),30m) DUNLIN_CLUSTER_SEED=$(SEED) go test -count=1 -timeout 0 -v -run TestClusterSoak ./test/cluster

.PHONY: scale-nodes
scale-nodes: build nats-server ## what a message costs on each process when one, two and three of three nodes have clients (SCENARIO, DURATION)
	go build -trimpath -o bin/bench ./test/bench
	scripts/scale-nodes.sh bin/bench

.PHONY: rolling-restart
rolling-restart: ## restart three nodes one after another under load, with CLIENTS (5000): what clients and operators notice; nothing acknowledged is lost
	DUNLIN_ROLLING_CLIENTS=$(or $(CLIENTS),5000) go test -count=1 -timeout 20m -v -run TestRollingRestart ./test/cluster

.PHONY: flood
flood: ## 10,000 idle clients, 1,000 that read nothing, and publishers as fast as they can: others go on
	DUNLIN_FLOOD=full go test -count=1 -timeout 10m -v -run TestNothingAClientSendsStopsOthers ./test/wire

.PHONY: scale
scale: ## what messages cost beside much that is idle: connections, sessions, subscriptions, retained messages, a long log (minutes)
	DUNLIN_SCALE=full go test -count=1 -timeout 60m -v ./test/scale

.PHONY: mass-resume
mass-resume: ## 1,000 and 10,000 sessions come back at once to a log of 1,000,000 messages: time, CPU, what others notice
	DUNLIN_MASS_RESUME="1000 10000" go test -count=1 -timeout 30m -v -run TestAllSessionsComeBackAtOnce ./test/resume

.PHONY: fmt
fmt: ## format the source
	$(TOOL) golangci-lint fmt

.PHONY: lint
lint: deploy-check ## go vet, formatting, the rules of .golangci.yml, and deploy-check
	go vet ./...
	$(TOOL) golangci-lint run

# A module of its own. What it reads lies outside of that, which the test cache does not look at.
.PHONY: deploy-check
deploy-check: ## Dockerfile, docker-compose.yml and what these use, without Docker
	cd deploy/check && go tool -modfile=../../tools/go.mod golangci-lint run --config ../../.golangci.yml
	cd deploy/check && go test -count=1 ./...

.PHONY: docs
docs: ## update what the documentation says about configuration keys, flags and clients, and what its commands print
	go test ./cmd/dunlin ./test/clients ./test/transcripts -run 'Doc' -rewrite

.PHONY: conformance
conformance: ## write docs/CONFORMANCE.md: which tests cite which clause; print the counts
	go run ./test/conformance

.PHONY: conformance-break
conformance-break: ## break the behaviours in docs/conformance/mutations.txt one by one; each must fail its test (minutes)
	go run ./test/conformance -break

.PHONY: verify
verify: lint ## what CI runs: lint, docs/CONFORMANCE.md as it must be, a slice of fuzzing, all tests with the race detector
	go run ./test/conformance -check
	$(MAKE) --no-print-directory fuzz FUZZTIME=30000x
	$(MAKE) --no-print-directory race
