# `make` alone lists the targets. Everything is built inside this folder: .venv (Python), target (Rust), dist (the wheel).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
FUZZ_SECONDS ?= 20
SEEDS ?= 20000
SEED ?=
SECONDS ?= 60
# Extra arguments, e.g. `make test-python PYTEST_ARGS="-k ring -x"`. Tests run in two lanes (tests/conftest.py); 0 for one after another.
PYTEST_ARGS ?=
PYTEST_LANES ?= 2
CARGO_ARGS ?=
BENCH_ARGS ?=

# rustup installs here, and a fresh shell may not have it on its path yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PEERS := target/peers-venv
FUZZ_TOOLS := target/fuzz-tools
PIP_INSTALL := -m pip install -q --require-hashes -r

RUST_SOURCES := $(shell find crates -type f \( -name '*.rs' -o -name Cargo.toml \) -not -path '*/tests/*' -not -path '*/benches/*')
PYTHON_SOURCES := $(shell find src -type f -not -path '*/__pycache__/*')

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# --- build ---------------------------------------------------------------------------------------

.PHONY: build
build: $(STAMPS)/wheel ## build the wheel and install it into .venv

.PHONY: demo
demo: build ## simulated exchange to live books to a Python strategy, within a minute
	@$(BIN)/barewire demo

.PHONY: check-tools
check-tools:
	@bash .ci/check-tools "$(PYTHON)"

$(STAMPS)/venv: | check-tools
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/requirements-%: requirements/%.txt $(STAMPS)/venv
	@echo "installing $<"
	@$(BIN)/python $(PIP_INSTALL) $<
	@touch $@

# Tests run against the installed wheel, never against the source tree.
$(STAMPS)/wheel: $(RUST_SOURCES) $(PYTHON_SOURCES) Cargo.toml Cargo.lock pyproject.toml README.md LICENSE \
                 $(STAMPS)/requirements-build | check-tools
	@echo "building the wheel"
	@flock $(STAMPS)/lock bash .ci/build-wheel $(BIN)
	@touch $@

# DPDK's own functions are inlined into their callers, so this is compiled for the version of DPDK that is installed. The
# package finds it beside itself; a wheel that is built later leaves it there.
DPDK_LIBRARY := target/dpdk/libbarewire_dpdk.so
CC ?= cc

.PHONY: dpdk
dpdk: build $(DPDK_LIBRARY) ## the receive path dpdk, for the libdpdk that is installed (apt install libdpdk-dev pkg-config)
	@install -m 755 $(DPDK_LIBRARY) "$$($(BIN)/python -c 'import os, barewire._core as core; print(os.path.dirname(core.__file__))')"
	@echo "built $(DPDK_LIBRARY) for DPDK $$(pkg-config --modversion libdpdk)"

$(DPDK_LIBRARY): $(wildcard crates/io/dpdk/*.[ch]) .ci/build-dpdk
	@CC="$(CC)" bash .ci/build-dpdk $@

# --- test ----------------------------------------------------------------------------------------

.PHONY: test
test: test-rust test-loom test-python ## every test: Rust, the ring's loom model, Python, the code in README and docs

.PHONY: test-rust
test-rust: | check-tools
	cargo test --workspace --locked -q $(CARGO_ARGS)

# A build folder of its own: with other flags in one folder, each run would rebuild what the last one built.
.PHONY: test-loom
test-loom: | check-tools
	CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg loom" cargo test -p barewire-ring --locked -q --release --lib loom_model

# A seed that failed, again, with all that happened in it: make simulate SEED=123
.PHONY: simulate
simulate: | check-tools ## sessions over bad networks with bad servers, from seeds: SEEDS=20000, or SEED=123 for one
	$(if $(SEED),BAREWIRE_SEED=$(SEED),BAREWIRE_SEEDS=$(SEEDS)) \
	    cargo test -p barewire-engine --locked -q --test simulation $(CARGO_ARGS) -- --nocapture

# Everything comes from Debian's packages, into target/vm; nothing is installed, and no KVM is needed.
.PHONY: test-vm
test-vm: | check-tools ## clock, stamp and zero-copy code on emulated cards, in a guest (Debian only; fetches 300 MB once)
	bash tests/vm/fetch target/vm
	program=$$(cargo test -p barewire-io --locked -q --features guest --test guest --no-run --message-format=json \
	    | sed -n 's/.*"executable":"\([^"]*guest-[^"]*\)".*/\1/p') && bash tests/vm/run target/vm "$$program"

.PHONY: torture
torture: build ## readers in Rust, C and Python, paused and killed, under a writer at full speed: SECONDS=60
	@$(BIN)/python tests/torture/run.py $(SECONDS)

.PHONY: test-python
test-python: build $(STAMPS)/requirements-dev
	$(BIN)/python -m pytest -n $(PYTEST_LANES) $(PYTEST_ARGS)

# --- lint ----------------------------------------------------------------------------------------

.PHONY: lint
lint: build $(STAMPS)/requirements-dev ## rustfmt, clippy, ruff, mypy --strict, and the stub of _core against the code
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -q -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest barewire._core

.PHONY: format
format: $(STAMPS)/requirements-dev ## rewrite the sources as lint wants them
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# --- bench, docs, fuzz ---------------------------------------------------------------------------

.PHONY: bench
bench: build $(PEERS)/installed ## decode, book and ring throughput beside the peers from PyPI (BENCH_ARGS=--help)
	$(BIN)/python benches/peers.py --peers $(PEERS)/bin/python $(BENCH_ARGS)

.PHONY: bench-recovery
bench-recovery: build ## what a feed loses and how long it takes to recover, with lines that lose packets
	$(BIN)/python benches/recovery.py $(BENCH_ARGS)

.PHONY: bench-latency
bench-latency: build ## latency and rates by receive path, over a veth pair when root (BENCH_ARGS=--readme: tables in the README)
	@$(BIN)/python benches/latency.py $(BENCH_ARGS)

.PHONY: bench-handoff
bench-handoff: build $(PEERS)/installed ## what handing an event over takes, beside iceoryx2 (BENCH_ARGS=--readme for the README's table)
	@$(BIN)/python benches/handoff.py --peers $(PEERS)/bin/python $(BENCH_ARGS)

.PHONY: instructions
instructions: | check-tools ## instructions a message on the hot path, counted by callgrind
	@bash benches/instructions.sh

$(PEERS)/installed: requirements/bench.txt $(STAMPS)/venv
	@echo "installing the peers"
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python $(PIP_INSTALL) $<
	@touch $@

.PHONY: docs
docs: build $(STAMPS)/requirements-docs ## build the documentation into site/, warnings are errors
	$(BIN)/python docs/build.py

# cargo-fuzz asks for flags that rustc keeps from stable builds; RUSTC_BOOTSTRAP lets the installed toolchain take them.
.PHONY: fuzz
fuzz: $(FUZZ_TOOLS)/bin/cargo-fuzz ## run every fuzz target for FUZZ_SECONDS (20)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) CARGO_FUZZ=$(CURDIR)/$< bash .ci/fuzz

$(FUZZ_TOOLS)/bin/cargo-fuzz: | check-tools
	cargo install -q --locked --version 0.13.2 --root $(FUZZ_TOOLS) cargo-fuzz

# --- housekeeping --------------------------------------------------------------------------------

.PHONY: lock
lock: $(STAMPS)/venv ## pin pyproject.toml's dependencies anew, with hashes, into requirements/
	@$(BIN)/python -m pip install -q uv
	@cd requirements && for group in dev build docs bench; do \
	  source=../pyproject.toml; [ $$group != bench ] || source=; \
	  constraint="-c dev.txt"; [ $$group != dev ] || constraint=; \
	  echo "requirements/$$group.txt"; \
	  ../$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --custom-compile-command "make lock" --group ../pyproject.toml:$$group $$source $$constraint -o $$group.txt $(LOCK_ARGS); \
	done

.PHONY: clean
clean: ## remove everything that was built here
	rm -rf $(VENV) target dist site fuzz/target fuzz/corpus fuzz/artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
