# SPDX-License-Identifier: Apache-2.0
#
# Every target makes the virtual environment it needs by itself: only make and Python 3.11 or later have to be there.
# Another interpreter: make test PYTHON=python3.13      Another place for the environment: make test VENV=/tmp/venv
# Pass options on: make test ARGS="-k split -x"         make demo ARGS="--duration 60"

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   ?= .venv
CONFIG ?= deploy/samples/helloworld-laptop
CASES  ?= tests/cases
ONLY   ?=
HUB    ?=
TAG    ?=
REV    ?=
MINUTES ?= 60
ARGS   ?=

BIN := $(VENV)/bin
# One stamp per requirements file: it is newer than the file when the environment holds exactly what the file names.
DEV_STAMP   := $(VENV)/.stamp-dev
BENCH_STAMP := $(VENV)/.stamp-bench
FUZZ_STAMP  := $(VENV)/.stamp-fuzz

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9.-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Environment ---------------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) found; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: acmgproxy needs Python 3.11 or later, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another with PYTHON=..." >&2; exit 1; }
	@echo "making the virtual environment $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "make: $(PYTHON) -m venv failed (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }

$(DEV_STAMP): requirements/dev.txt pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-build-isolation --no-deps --editable .
	@touch $@

$(BENCH_STAMP): requirements/bench.txt | $(DEV_STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

$(FUZZ_STAMP): requirements/fuzz.txt | $(DEV_STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	@touch $@

.PHONY: install
install: $(DEV_STAMP) ## make the virtual environment with everything for development

.PHONY: lock
lock: $(DEV_STAMP) ## resolve requirements/*.txt again, ignoring releases of the last seven days
	@$(call compile,runtime,--extra otel)
	@$(call compile,dev,--group pyproject.toml:dev --constraint requirements/runtime.txt)
	@$(call compile-group,build,--group pyproject.toml:build --constraint requirements/dev.txt)
	@$(call compile-group,bench,--group pyproject.toml:bench)
	@$(call compile-group,fuzz,--group pyproject.toml:fuzz)

# No configuration, index or link of this machine may reach the files: they must mean the same everywhere.
UV_COMPILE = env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
  $(BIN)/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --exclude-newer "7 days" \
  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"
compile       = $(UV_COMPILE) pyproject.toml $(2) --output-file requirements/$(1).txt
compile-group = $(UV_COMPILE) $(2) --output-file requirements/$(1).txt

## Use -----------------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(DEV_STAMP) ## see it work: traffic split, configuration change and a killed server, without a lost request
	@$(BIN)/python -m acmgproxy demo $(ARGS)

.PHONY: run
run: $(DEV_STAMP) ## run the gateway on a directory of Kubernetes YAML (CONFIG=dir)
	@exec $(BIN)/python -m acmgproxy run --config $(CONFIG) $(ARGS)

## Quality -------------------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(DEV_STAMP) ## run all tests
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

.PHONY: e2e
e2e: $(DEV_STAMP) ## run the end-to-end tests: a cluster in network namespaces, under load (needs root, iproute2, nftables)
	@$(BIN)/python -m tests.e2e $(ARGS)

.PHONY: cases
cases: $(DEV_STAMP) ## run behavioural cases against a real gateway (CASES=file.yaml or directory, ONLY=id)
	@$(BIN)/python -m tests.cases $(CASES) $(addprefix --only=,$(ONLY)) $(ARGS)

.PHONY: lint
lint: $(DEV_STAMP) ## style, formatting, types, import contracts, spelling, Dockerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/hadolint Dockerfile

.PHONY: format
format: $(DEV_STAMP) ## format the code and repair what ruff can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: coverage
coverage: $(DEV_STAMP) ## run all tests and measure branch coverage (100 % of routing and the framing layer)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --cov --cov-report= --cov-fail-under=0 $(ARGS)
	@$(BIN)/coverage report
	@$(BIN)/coverage report --include='routing/*,acmgproxy/h1/*' --fail-under=100

.PHONY: check
check: lint test ## lint, then test

.PHONY: fuzz
fuzz: $(FUZZ_STAMP) ## look for bytes that break HTTP handling (SECONDS=60); crashes are kept in fuzz/regressions/
	@$(BIN)/python -m fuzz --seconds $(SECONDS) $(ARGS)

.PHONY: h1
h1: $(DEV_STAMP) ## run a differential HTTP/1.1 tool on a gateway (TOOL=path CASES=file)
	@$(BIN)/python -m tests.h1_tool "$(TOOL)" "$(CASES)" $(ARGS)

.PHONY: h1-responses
h1-responses: $(DEV_STAMP) ## give a gateway raw answers and judge what its client gets (CASES=file)
	@$(BIN)/python -m tests.h1_responses "$(CASES)" $(ARGS)

.PHONY: hooks
hooks: $(DEV_STAMP) ## check every commit before it is made (git hooks, no network needed)
	@$(BIN)/pre-commit install

.PHONY: bench-quick
bench-quick: $(BENCH_STAMP) ## compare with nginx, HAProxy and Envoy in under a minute
	@$(BIN)/python -m bench quick $(ARGS)

.PHONY: bench-scale
bench-scale: $(BENCH_STAMP) ## watch a cluster of 5,000 Services and 50,000 endpoints, and follow 200 changes a second
	@$(BIN)/python -m bench scale $(ARGS)

.PHONY: soak
soak: $(DEV_STAMP) ## mixed traffic, faults, changes and restarts for MINUTES=60, and nothing may fail, grow or drift
	@$(BIN)/python -m bench soak --minutes $(MINUTES) $(ARGS)

.PHONY: bench
bench: $(BENCH_STAMP) ## compare with nginx, HAProxy and Envoy in every respect, in about ten minutes (ARGS=--short: one)
	@$(BIN)/python -m bench full $(ARGS)

.PHONY: bench-report
bench-report: $(DEV_STAMP) ## write docs/performance.md and its plots from what make bench has measured
	@$(BIN)/python -m bench document $(ARGS)

.PHONY: bench-micro
bench-micro: $(DEV_STAMP) ## time the steps of the hot path one by one
	@$(BIN)/python -m pytest bench/micro --benchmark-enable --benchmark-only -p no:randomly $(ARGS)

.PHONY: bench-compare
bench-compare: $(BENCH_STAMP) ## compare this working tree with a revision: what a change costs or saves (REV=main)
	@[[ -n "$(REV)" ]] || { echo "make: REV is missing, the revision to compare with; for example REV=main" >&2; exit 1; }
	@$(BIN)/python -m bench compare "$(REV)" $(ARGS)

## Package -------------------------------------------------------------------------------------------------------------------

.PHONY: screenshots
screenshots: $(DEV_STAMP) ## take the pictures of docs/dashboard.md again (needs chromium; takes three minutes)
	@$(BIN)/python -m tests.screenshots docs/images $(ARGS)

.PHONY: crds
crds: $(DEV_STAMP) ## write deploy/crds again, from the resources that routing reads
	@$(BIN)/python -m acmgproxy.ctl.manifests.crds deploy/crds

.PHONY: build
build: $(DEV_STAMP) ## make the wheel and the source archive in dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build

# The engine is looked for when it is needed: only these two targets need one.
define build-image
  engine=$$(command -v docker || command -v podman) || \
    { echo "make: neither docker nor podman found; install one of them to make an image" >&2; exit 1; }; \
  revision=$$(git rev-parse HEAD 2>/dev/null || echo unknown); \
  "$$engine" build --tag "$(1)" --build-arg VERSION="$(2)" --build-arg REVISION="$$revision" $(ARGS) .
endef

.PHONY: image
image: ## make the container image acmgproxy:dev for this machine (needs docker or podman)
	@$(call build-image,acmgproxy:dev,dev)

.PHONY: docker.acmg
docker.acmg: ## make the container image HUB/acmgproxy:TAG (HUB=registry.example.com/mesh TAG=0.1.0)
	@[[ -n "$(HUB)" ]] || { echo "make: HUB is missing, the registry and path of the image; for example HUB=registry.example.com/mesh" >&2; exit 1; }
	@[[ -n "$(TAG)" ]] || { echo "make: TAG is missing, the image's tag; for example TAG=0.1.0" >&2; exit 1; }
	@$(call build-image,$(HUB)/acmgproxy:$(TAG),$(TAG))
	@echo "made $(HUB)/acmgproxy:$(TAG); next: docker push $(HUB)/acmgproxy:$(TAG), acmgctl install --set hub=$(HUB) --set tag=$(TAG)"

.PHONY: clean
clean: ## remove everything the other targets made
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks .fuzz htmlcov .coverage .coverage.*
	@find acmgproxy routing discovery bench fuzz tests -name __pycache__ -type d -prune -exec rm -rf {} +
