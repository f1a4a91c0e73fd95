# Everything a newcomer, a developer and CI run. `make run` and `make test` install what they need.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Tools that `make setup` had to bring along (a newer Node than the system's, Rust) come first.
export PATH := $(CURDIR)/.tools/node_modules/.bin:$(HOME)/.cargo/bin:$(PATH)
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD := 1

DATA_DIR ?= data
ARGS ?=
FIGURE ?=
WEB_SOURCES := $(shell find web/sdk web/app -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

.PHONY: help setup setup-run run web test test-rust test-web e2e lint bench figures fuzz clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install everything: to build, to run and to test
	@.ci/setup all

setup-run:
	@.ci/setup run

run: setup-run web ## Build the server and run it; prints the link to open
	cargo build --release --locked
	target=$$(.ci/target-dir) && exec "$$target/release/fanlight" serve --data-dir $(DATA_DIR) $(ARGS)

web: web/dist/index.html ## Build the pages

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

tests/e2e/node_modules/.package-lock.json: tests/e2e/package-lock.json
	cd tests/e2e && npm ci --no-audit --no-fund
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SOURCES)
	cd web && npm run build
	@touch $@

test: setup web test-rust test-web e2e ## Run all tests

test-rust:
	cargo test --workspace --locked

test-web: web/node_modules/.package-lock.json
	cd web && npm test

e2e: web tests/e2e/node_modules/.package-lock.json ## Run the browser tests
	# As test-rust builds it, so that the server is not compiled twice.
	cargo test --workspace --locked --no-run
	cd tests/e2e && FANLIGHT=$$(../../.ci/target-dir)/debug/fanlight npx playwright test

lint: setup web tests/e2e/node_modules/.package-lock.json ## Check formatting, lints and types
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd web && npm run lint
	cd tests/e2e && npm run lint

bench: ## Measure the forwarding plane against its goals and the floor of the same run
	cargo build --release --locked -p fanlight -p fanlight-bench
	target=$$(.ci/target-dir) && exec "$$target/release/fanlight-bench"

figures: ## Measure outputs: cost, start, recovery (FIGURE="long 30" for one of them with its number)
	cargo bench --locked -p egress --bench figures -- $(FIGURE)

fuzz: ## Fuzz every parser for SECONDS_EACH seconds (needs a nightly toolchain and cargo-fuzz)
	.ci/fuzz $(or $(SECONDS_EACH),60)

clean: ## Remove what was built
	cargo clean
	rm -rf web/dist web/node_modules tests/e2e/node_modules .tools
