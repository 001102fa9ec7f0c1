# make demo     train a small table on real images, draw it, write an HTML report (minutes)
# make test     the whole test suite        make check    format, lint and types
# make results  every table at preset cpu   make bench    benchmarks, into bench_results/
# Each target first creates .venv from the committed lock, if it is missing or older than the lock.
PYTHON ?= python3.11
WORKDIR ?= runs
PYTEST_ARGS ?=
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup aot demo test check results bench lock

VENV := .venv
BIN := $(VENV)/bin
LOCK := .ci/requirements.txt
AOT_LOCK := .ci/requirements-aot.txt
STAMP := $(VENV)/.installed
PIP_FLAGS := --quiet --disable-pip-version-check --no-input

help:
	@grep '^# ' Makefile | cut -c3-

# A Python without ensurepip (Debian's without python3-venv) has no pip to put into the
# environment: its own pip then installs into it from outside.
$(STAMP): $(LOCK) pyproject.toml
	@echo "creating $(VENV) from $(LOCK)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"PYTHON=$(PYTHON) is Python {v[0]}.{v[1]}; wanted 3.11 (3.12 and 3.13 resolve, but were not run)")'
	@rm -f $@
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then pip=("$(BIN)/python" -m pip); \
	else pip=("$(PYTHON)" -m pip --python "$(BIN)/python"); fi; \
	"$${pip[@]}" install $(PIP_FLAGS) --require-hashes -r $(LOCK); \
	"$${pip[@]}" install $(PIP_FLAGS) --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP)

# The TPU compiler (about 480 MB) behind `lab compile`; tests marked `aot` are skipped without it.
aot: $(VENV)/.installed-aot
$(VENV)/.installed-aot: $(AOT_LOCK) $(STAMP)
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then pip=("$(BIN)/python" -m pip); \
	else pip=("$(PYTHON)" -m pip --python "$(BIN)/python"); fi; \
	"$${pip[@]}" install $(PIP_FLAGS) --require-hashes -r $(AOT_LOCK)
	@touch $@

demo: $(STAMP)
	@start=$$SECONDS; \
	$(BIN)/lab table nfn.equivariant 3 --preset=demo --workdir=$(WORKDIR) --out=demo_results; \
	$(BIN)/lab report --workdir=$(WORKDIR) --results=demo_results --out=demo_results/report.html; \
	echo "demo: $$((SECONDS - start)) s; open demo_results/report.html"

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyrefly check --summarize-errors

results: $(STAMP)
	@$(BIN)/lab list --tables | while read -r paper table; do \
	  $(BIN)/lab table "$$paper" "$$table" --preset=cpu --workdir=$(WORKDIR); done
	@$(BIN)/lab report --workdir=$(WORKDIR)

bench: $(STAMP)
	@mkdir -p results; \
	for path in tests/benchmarks/*.py; do name=$$(basename $$path .py); \
	  $(BIN)/python -m tests.benchmarks.$$name --out=results/$$name.json; done

# For maintainers: resolves the pins of pyproject.toml again; needs uv.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	@{ echo "# Written by \`make lock\` from pyproject.toml (with extra dev). Linux x86_64 with Python 3.11 is what is run."; \
	  $(UV_COMPILE) --extra dev pyproject.toml; } > $(LOCK).new && mv $(LOCK).new $(LOCK)
	@{ echo "# Written by \`make lock\` from pyproject.toml (extra aot)."; \
	  sed -n 's/^aot = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(UV_COMPILE) -; } > $(AOT_LOCK).new && mv $(AOT_LOCK).new $(AOT_LOCK)
