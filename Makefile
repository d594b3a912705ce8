# `make` alone lists what there is. Needs Rust, a C compiler, and Python 3.10 or newer with pip.

PYTHON ?= python3
ARGS ?=
SECONDS ?= 60

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/created.stamp
BUILT := $(VENV)/built.stamp
# pip and maturin work on this environment whatever else is active.
ENVIRONMENT := env -u CONDA_PREFIX -u PYTHONHOME -u PYTHONPATH PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV='$(CURDIR)/$(VENV)'
SOURCES := pyproject.toml Cargo.toml Cargo.lock $(wildcard crates/*/Cargo.toml) \
  $(shell find crates -path '*/src/*' -name '*.rs')
CHECKED := python tests examples benchmarks

export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak dependents lint bench build format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## pull from a small local server and show what came out
	$(BIN)/python examples/demo.py

test: build ## all the tests, those in Rust and those in Python (ARGS="-k name" goes to pytest)
	cargo test --locked -p geventhttpclient-wire -p geventhttpclient-engine
	$(BIN)/python -m pytest $(ARGS)

soak: build ## everything at once through a network that does its worst, for SECONDS=60; it must stay flat
	$(BIN)/python -m tests.soak $(SECONDS)

dependents: build ## install locust, tritonclient and botocore, whose tests are skipped without
	$(ENVIRONMENT) $(BIN)/python -m pip install --quiet --requirement tests/dependents.txt

lint: build ## rustfmt, clippy, ruff, mypy, and the stub against the binary: warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest geventhttpclient._core --mypy-config-file pyproject.toml

bench: build ## this package beside its predecessor, against nginx (ARGS="--quick" for a short run)
	$(BIN)/python benchmarks/bench.py $(ARGS)

build: $(BUILT) ## build into .venv; nothing is done while the Rust sources stay the same

format: $(BUILT) ## put Rust and Python in their usual form
	cargo fmt --all
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove what was built, .venv and target included
	rm -rf $(VENV) .bench target dist python/geventhttpclient/_core.*.so .mypy_cache .pytest_cache .ruff_cache
	find $(CHECKED) -name __pycache__ -prune -exec rm -rf {} +

# Where Python comes without ensurepip (Debian's does), the pip of $(PYTHON) puts one into the environment.
$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(ENVIRONMENT) $(BIN)/python -m pip install --quiet 'maturin>=1.16,<2'
	touch $@

$(BUILT): $(CREATED) $(SOURCES)
	$(ENVIRONMENT) $(BIN)/maturin develop --release --locked --extras dev
	touch $@
