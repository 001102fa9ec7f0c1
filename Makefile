# make demo     train a small table on real images, draw it, write an HTML report (minutes)
# make test     the whole test suite        make check    format, lint and types
# make test-all   the same with its slow tests
# make test-cost  the same, compiled cold, and what every topic of it costs
# make results  every table at preset cpu   make bench    benchmarks, into results/
# make results-check   the committed numbers against the published ones
# make setup    only the environment; ACCELERATOR=cuda or tpu adds what a GPU or a TPU VM needs
# Each target first creates .venv from the committed lock, if it is missing or older than the lock, with the
# newest of Python 3.13, 3.12 and 3.11 that runs; PYTHON=python3.12 takes that one.
WORKDIR ?= runs
PYTEST_ARGS ?=
# The tests of a file stay together: they share fixtures and compiled programs.
PYTEST_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup aot demo test test-all test-cost smoke smoke-tests check results results-check bench lock

VENV := .venv
BIN := $(VENV)/bin
LOCK := .ci/requirements.txt
STAMP := $(VENV)/.installed
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
PIP_INSTALL = if $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then pip=("$(BIN)/python" -m pip); \
	else pip=("$$(cat $(VENV)/.interpreter)" -m pip --python "$(BIN)/python"); fi; \
	"$${pip[@]}" install $(PIP_FLAGS)

help:
	@grep '^# ' Makefile | cut -c3-

# PYTHON= decides; without it the newest supported interpreter that runs is taken, and said.
# Another PYTHON than that of the environment makes the environment anew.
ifdef PYTHON
ifneq ($(shell cat $(VENV)/.python 2>/dev/null),$(PYTHON))
$(shell rm -f $(STAMP))
endif
endif

ifdef ACCELERATOR
ifeq ($(filter $(ACCELERATOR),cuda tpu),)
$(error ACCELERATOR=$(ACCELERATOR): expected cuda or tpu)
endif
endif

# A Python without ensurepip (Debian's without python3-venv) has no pip to put into the
# environment: its own pip then installs into it from outside.
$(STAMP): $(LOCK) pyproject.toml
	@python=$$(bash .ci/find_python "$(PYTHON)"); \
	echo "creating $(VENV) from $(LOCK) with $$("$$python" --version) ($$python)"; \
	rm -f $(VENV)/.installed*; \
	"$$python" -m venv --clear $(VENV) >/dev/null 2>&1 || "$$python" -m venv --clear --without-pip $(VENV); \
	echo "$$python" > $(VENV)/.interpreter; \
	echo "$(or $(PYTHON),$$python)" > $(VENV)/.python
	@$(PIP_INSTALL) --require-hashes -r $(LOCK)
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) $(if $(ACCELERATOR),$(VENV)/.installed-$(ACCELERATOR))

# Over the lock: the TPU compiler (about 480 MB) behind `lab compile`, without which tests marked `aot`
# are skipped; the CUDA plugin and libraries; libtpu for a TPU VM.
aot: $(VENV)/.installed-aot
$(VENV)/.installed-%: .ci/requirements-%.txt $(STAMP)
	@$(PIP_INSTALL) --require-hashes -r $<
	@touch $@
$(VENV)/.installed-aot $(VENV)/.installed-cuda $(VENV)/.installed-tpu: $(STAMP)

demo: $(STAMP)
	@start=$$SECONDS; \
	$(BIN)/lab table nfn.equivariant 3 --preset=demo --workdir=$(WORKDIR) --out=demo_results; \
	$(BIN)/lab report --workdir=$(WORKDIR) --results=demo_results --out=demo_results/report.html; \
	echo "demo: $$((SECONDS - start)) s; open demo_results/report.html"

test: $(STAMP)
	@$(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS)

test-all: $(STAMP)
	@$(BIN)/python -m pytest $(PYTEST_PARALLEL) -m "slow or not slow" $(PYTEST_ARGS)

# The other stack, where Python 3.11 is here: canary, conformance, a training killed and resumed, a
# table cell. Its environment is .venv-3.11.
smoke:
	@if python=$$(bash .ci/find_python 3.11 2>/dev/null); then \
	  $(MAKE) --no-print-directory VENV=.venv-3.11 PYTHON="$$python" smoke-tests; \
	else echo "smoke: no Python 3.11 here, the older stack is not tried"; fi
smoke-tests: $(STAMP)
	@$(BIN)/python -m pytest -q $(PYTEST_PARALLEL) -m "smoke and not slow"

# What every topic and file of the suite costs, compiled cold.
test-cost: $(STAMP)
	@programs=$$(mktemp -d); trap 'rm -rf "$$programs"' EXIT; \
	JAX_COMPILATION_CACHE_DIR=$$programs $(BIN)/python -m pytest $(PYTEST_PARALLEL) -q --costs $(PYTEST_ARGS)

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyrefly check --summarize-errors

# A table whose data nobody can fetch and that are not here (exit code 5) is left as it is committed.
results: $(STAMP)
	@$(BIN)/lab list --tables | while read -r paper table; do \
	  $(BIN)/lab table "$$paper" "$$table" --preset=cpu --workdir=$(WORKDIR) || [ $$? = 5 ]; done
	@$(BIN)/lab report --workdir=$(WORKDIR)

# Do the committed numbers agree with the published ones, as far as each table says they should?
results-check: $(STAMP)
	@failed=0; while read -r paper table; do echo "== $$paper $$table"; \
	  $(BIN)/lab table "$$paper" "$$table" --preset=cpu --check || failed=$$?; \
	done < <($(BIN)/lab list --tables); exit $$failed

bench: $(STAMP)
	@mkdir -p results; \
	for path in tests/benchmarks/*.py; do name=$$(basename $$path .py); \
	  $(BIN)/python -m tests.benchmarks.$$name --out=results/$$name.json; done

# For maintainers: resolves the pins of pyproject.toml again; needs uv.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	@{ echo "# Written by \`make lock\` from pyproject.toml (with extra dev), for Linux x86_64, Python 3.11 to 3.13."; \
	  $(UV_COMPILE) --extra dev pyproject.toml; } > $(LOCK).new && mv $(LOCK).new $(LOCK)
	@for extra in aot cuda tpu; do lock=.ci/requirements-$$extra.txt; \
	  { echo "# Written by \`make lock\` from pyproject.toml (extra $$extra); installed over $(LOCK)."; \
	    python3 -c "import sys, tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$$extra']))" \
	    | $(UV_COMPILE) --constraint $(LOCK) -; } > $$lock.new && mv $$lock.new $$lock; done
