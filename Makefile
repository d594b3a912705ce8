# `make` lists the targets. Requires Rust 1.89 or newer, a C compiler, and Python 3.10 or newer with pip.

PYTHON ?= python3
ARGS ?=
# Duration of a soak, and of each fuzz target.
SECONDS ?= 60
# Number of cycles of each leak check in `make leaks`.
CYCLES ?= 20000

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/created.stamp
BUILT := $(VENV)/built.stamp
DEVELOPED := $(VENV)/developed.stamp
TOOLS := $(VENV)/tools.stamp
PACKED := $(VENV)/wheel.stamp
DOCUMENTED := $(VENV)/documented.stamp
# pip and maturin use this environment even if another one is active.
ENVIRONMENT := env -u CONDA_PREFIX -u PYTHONHOME -u PYTHONPATH PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV='$(CURDIR)/$(VENV)'
SOURCES := pyproject.toml Cargo.toml Cargo.lock $(wildcard crates/*/Cargo.toml) \
  $(shell find crates -path '*/src/*' -name '*.rs')
PACKAGED := README.md LICENSE THIRD-PARTY-LICENSES.txt $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)
# Without the slow optimisations of the release profile, which take very long with a sanitizer.
FUZZ := CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo +nightly fuzz
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
TEST_RUST := cargo test --locked -p geventhttpclient-wire -p geventhttpclient-engine -p geventhttpclient-fuzz
# Each process would compile every module again, and pytest rewrite every test, if no bytecode were written.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
# pytest ends with 5 if it has selected no test.
OR_NONE := || [ $$? = 5 ]
CHECKED := python tests examples benchmarks docs tools
# The oldest glibc that Rust itself supports. Zig links against it, regardless of this machine's version.
WHEEL := $(if $(filter Linux,$(shell uname)),--zig --compatibility manylinux_2_17)

export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-long mutants soak leaks fuzz miri dependents lint docs bench build format wheel matrix audit licences clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## run the demo against a small local server
	$(BIN)/python examples/demo.py

test: $(DEVELOPED) ## run the Rust and Python tests, on all cores, without the long ones (ARGS="-k name" goes to pytest)
	$(TEST_RUST)
	$(PYTEST) -n auto -m 'not long' $(ARGS)

test-long: $(DEVELOPED) ## run all tests, with the long ones: whole matrices, stress tests, soaks, leaks
	$(TEST_RUST)
	$(PYTEST) -n auto -m 'not serial' $(ARGS) $(OR_NONE)
	$(PYTEST) -m serial $(ARGS) $(OR_NONE)

soak: $(DEVELOPED) ## use all features at once over a faulty network, for SECONDS=60; memory must stay constant
	$(BIN)/python -m tests.programs.soak $(SECONDS)

leaks: $(DEVELOPED) ## use every object and path 20,000 times and count leaked objects (CYCLES=200000, ARGS="-k killed")
	LEAK_CYCLES=$(CYCLES) $(BIN)/python -m pytest tests/stress/test_leaks.py $(ARGS)

fuzz: ## run each fuzz target for a minute (SECONDS=600 for ten); requires nightly Rust and cargo-fuzz
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

mutants: ## change wire in each way that its tests should notice, and list what they miss, hours; needs cargo-mutants
	@cargo mutants --version >/dev/null 2>&1 || { echo "cargo-mutants is missing: cargo install cargo-mutants --locked" >&2; exit 1; }
	cargo mutants --package geventhttpclient-wire --output target/mutants $(ARGS)

miri: ## run the Rust tests that Miri supports, about four minutes; requires nightly Rust with miri
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo "Miri is missing: rustup component add miri --toolchain nightly" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked -p geventhttpclient-wire --lib
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked -p geventhttpclient-engine --lib sys

dependents: $(DEVELOPED) ## install locust, tritonclient, docker and the SDKs; without them their tests are skipped
	$(ENVIRONMENT) $(BIN)/python -m pip install --quiet --requirement tests/dependents.txt

lint: $(DEVELOPED) ## run rustfmt, clippy, ruff, mypy, pyright, and check the stub: warnings are errors
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
	$(BIN)/python tools/import_cycles.py
	$(BIN)/python tools/phrases.py

docs: $(DOCUMENTED) ## build the documentation into target/docs/html: warnings are errors
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d target/docs/doctrees docs target/docs/html
	@echo "file://$(CURDIR)/target/docs/html/index.html"

audit: $(TOOLS) ## check licences, sources and known vulnerabilities of the dependencies, and the workflows
	$(BIN)/cargo-deny --locked $(if $(OFFLINE),--offline) check licenses bans sources $(if $(OFFLINE),,advisories)
	$(BIN)/zizmor --quiet $(if $(OFFLINE),--offline) .github
	$(if $(OFFLINE),,$(BIN)/pip-audit .)

licences: ## regenerate THIRD-PARTY-LICENSES.txt, after a change of Cargo.lock
	$(PYTHON) tools/licences.py

wheel: $(PACKED) ## build the wheel for every CPython since 3.10, and the sdist, into dist/

matrix: $(PACKED) ## test that wheel with each installed CPython, oldest and newest gevent (ARGS=tests: all tests)
	$(PYTHON) tools/matrix.py $(ARGS)

bench: $(DEVELOPED) ## compare this package with version 2, against nginx, with plots (ARGS="--quick" for a short run)
	$(BIN)/python benchmarks/bench.py $(ARGS)
	$(BIN)/python benchmarks/pictures.py

build: $(BUILT) ## build into .venv, if the Rust sources have changed

format: $(DEVELOPED) ## format the Rust and Python code
	cargo fmt --all
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove everything that was built, with .venv and target
	rm -rf $(VENV) .bench .matrix target dist python/geventhttpclient/_core.*.so .mypy_cache .pytest_cache .ruff_cache
	find $(CHECKED) -name __pycache__ -prune -exec rm -rf {} +

# If Python has no ensurepip (as Debian's), the pip of $(PYTHON) installs pip into the environment.
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

# The wheel is not built from the sdist: all its files have the same date, so Cargo would not rebuild changed ones.
$(PACKED): $(TOOLS) $(SOURCES) $(PACKAGED)
	rm -rf dist
	$(ENVIRONMENT) $(BIN)/maturin sdist --out dist
	$(ENVIRONMENT) PATH='$(CURDIR)/$(BIN)':"$$PATH" $(BIN)/maturin build --locked $(WHEEL) --out dist
	$(if $(WHEEL),$(BIN)/auditwheel show dist/*.whl)
	touch $@

$(BUILT): $(CREATED) $(SOURCES)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked
	touch $@

# The dependencies of the tests and checks are a hundred times larger than those of the package.
$(DEVELOPED): $(BUILT)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked --extras dev
	touch $@

# Sphinx and its dependencies take a while to install, and are needed only to build the documentation.
$(DOCUMENTED): $(DEVELOPED)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked --extras docs
	touch $@
