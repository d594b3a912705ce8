# `make` alone lists what there is. Needs Rust 1.89 or newer, a C compiler, and Python 3.10 or newer with pip.

PYTHON ?= python3
ARGS ?=
# Of a soak, and of each fuzz target.
SECONDS ?= 60
# Of each leak check, where it is to be thorough.
CYCLES ?= 20000

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/created.stamp
BUILT := $(VENV)/built.stamp
DEVELOPED := $(VENV)/developed.stamp
TOOLS := $(VENV)/tools.stamp
PACKED := $(VENV)/wheel.stamp
DOCUMENTED := $(VENV)/documented.stamp
# pip and maturin work on this environment whatever else is active.
ENVIRONMENT := env -u CONDA_PREFIX -u PYTHONHOME -u PYTHONPATH PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV='$(CURDIR)/$(VENV)'
SOURCES := pyproject.toml Cargo.toml Cargo.lock $(wildcard crates/*/Cargo.toml) \
  $(shell find crates -path '*/src/*' -name '*.rs')
PACKAGED := README.md LICENSE THIRD-PARTY-LICENSES.txt $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)
# Without what the release is built with for speed, which takes a sanitizer long.
FUZZ := CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo +nightly fuzz
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
CHECKED := python tests examples benchmarks docs tools
# The oldest glibc that Rust itself supports. Zig links against it, whatever this machine has.
WHEEL := $(if $(filter Linux,$(shell uname)),--zig --compatibility manylinux_2_17)

export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak leaks fuzz miri dependents lint docs bench build format wheel matrix audit licences clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## pull from a small local server and show what came out
	$(BIN)/python examples/demo.py

test: $(DEVELOPED) ## all the tests, those in Rust and those in Python (ARGS="-k name" goes to pytest)
	cargo test --locked -p geventhttpclient-wire -p geventhttpclient-engine -p geventhttpclient-fuzz
	$(BIN)/python -m pytest $(ARGS)

soak: $(DEVELOPED) ## everything at once through a network that does its worst, for SECONDS=60; it must stay flat
	$(BIN)/python -m tests.soak $(SECONDS)

leaks: $(DEVELOPED) ## every object and path 20,000 times, counting what stays behind (CYCLES=200000, ARGS="-k killed")
	LEAK_CYCLES=$(CYCLES) $(BIN)/python -m pytest tests/test_leaks.py $(ARGS)

fuzz: ## each fuzz target for a minute (SECONDS=600 for ten); needs Rust's nightly and cargo-fuzz
	@cargo +nightly --version >/dev/null 2>&1 || { echo "Rust's nightly is missing: rustup toolchain install nightly" >&2; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 1; }
	cargo run --quiet --locked -p geventhttpclient-fuzz --example seeds -- target/fuzz/seeds
	$(FUZZ) build --features libfuzzer
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz/found/$$target target/fuzz/crashes; \
	  echo "$$target, $(SECONDS) s"; \
	  $(FUZZ) run --features libfuzzer $$target target/fuzz/found/$$target target/fuzz/seeds/$$target -- \
	    -max_total_time=$(SECONDS) -max_len=4096 -artifact_prefix=target/fuzz/crashes/$$target- -verbosity=0 \
	    -print_final_stats=1 || exit 1; \
	done

miri: ## what Miri can run of the tests in Rust, some four minutes; needs Rust's nightly with miri
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo "Miri is missing: rustup component add miri --toolchain nightly" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked -p geventhttpclient-wire --lib
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked -p geventhttpclient-engine --lib sys

dependents: $(DEVELOPED) ## install locust, tritonclient and botocore, whose tests are skipped without
	$(ENVIRONMENT) $(BIN)/python -m pip install --quiet --requirement tests/dependents.txt

lint: $(DEVELOPED) ## rustfmt, clippy, ruff, mypy, pyright, and the stub against the binary: warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	PATH='$(CURDIR)/$(BIN)':"$$PATH" pyright --warnings
	PATH='$(CURDIR)/$(BIN)':"$$PATH" pyright --verifytypes geventhttpclient --ignoreexternal >$(VENV)/types.txt || \
	  { cat $(VENV)/types.txt; exit 1; }
	$(BIN)/python -m mypy.stubtest geventhttpclient._core --mypy-config-file pyproject.toml
	$(BIN)/python tools/licences.py --check

docs: $(DOCUMENTED) ## build the documentation into target/docs/html: warnings are errors
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d target/docs/doctrees docs target/docs/html
	@echo "file://$(CURDIR)/target/docs/html/index.html"

audit: $(TOOLS) ## licences, sources and known defects of what we depend on; the workflows
	$(BIN)/cargo-deny --locked $(if $(OFFLINE),--offline) check licenses bans sources $(if $(OFFLINE),,advisories)
	$(BIN)/zizmor --quiet $(if $(OFFLINE),--offline) .github
	$(if $(OFFLINE),,$(BIN)/pip-audit .)

licences: ## write THIRD-PARTY-LICENSES.txt again, after a change of Cargo.lock
	$(PYTHON) tools/licences.py

wheel: $(PACKED) ## the wheel for every CPython since 3.10, and the sdist, into dist/

matrix: $(PACKED) ## tests on that wheel by each CPython here, with the oldest gevent and the newest (ARGS=tests: all tests)
	$(PYTHON) tools/matrix.py $(ARGS)

bench: $(DEVELOPED) ## this package beside its predecessor, against nginx, and pictures of it (ARGS="--quick" for a short run)
	$(BIN)/python benchmarks/bench.py $(ARGS)
	$(BIN)/python benchmarks/pictures.py

build: $(BUILT) ## build into .venv; nothing is done while the Rust sources stay the same

format: $(DEVELOPED) ## put Rust and Python in their usual form
	cargo fmt --all
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove what was built, .venv and target included
	rm -rf $(VENV) .bench .matrix target dist python/geventhttpclient/_core.*.so .mypy_cache .pytest_cache .ruff_cache
	find $(CHECKED) -name __pycache__ -prune -exec rm -rf {} +

# Where Python comes without ensurepip (Debian's does), the pip of $(PYTHON) puts one into the environment.
$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(ENVIRONMENT) $(BIN)/python -m pip install --quiet 'maturin>=1.16,<2'
	touch $@

$(TOOLS): $(CREATED) tools/requirements.txt
	$(ENVIRONMENT) $(BIN)/python -m pip install --quiet --requirement tools/requirements.txt
	touch $@

# The wheel is not built from the sdist: there all files have one date, and Cargo takes what was built of others for new.
$(PACKED): $(TOOLS) $(SOURCES) $(PACKAGED)
	rm -rf dist
	$(ENVIRONMENT) $(BIN)/maturin sdist --out dist
	$(ENVIRONMENT) PATH='$(CURDIR)/$(BIN)':"$$PATH" $(BIN)/maturin build --locked $(WHEEL) --out dist
	$(if $(WHEEL),$(BIN)/auditwheel show dist/*.whl)
	touch $@

$(BUILT): $(CREATED) $(SOURCES)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked
	touch $@

# What tests and checks need beside it is a hundred times larger than what the package does.
$(DEVELOPED): $(BUILT)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked --extras dev
	touch $@

# Sphinx and what it brings take a while to install, and only those who build the documentation need them.
$(DOCUMENTED): $(DEVELOPED)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked --extras docs
	touch $@
