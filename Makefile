# One target per thing a person does here; each installs what it needs first.
# `make setup` is quick when pyproject.toml has not changed since the last one.
# PYTHON=python3.12 make setup   chooses the interpreter; VENV=dir the environment's folder.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo
JOBS ?= 3

# Two torch threads on two busy cores are slower than one (measured); workers share the cores.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-lowest check format bench readme clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## ?/  make \1\t/' | expand -t 20

setup: $(STAMP)  ## create .venv and install the package with its test and lint tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}. Say PYTHON=python3.x make setup." if v < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --editable . --group test --group lint
	@touch $@

demo: setup  ## distil a classical teacher into quantum students and write a report (under 2 minutes)
	$(BIN)/qkd run c2q-digits --out $(OUT)
	@echo
	@echo "Report: $(abspath $(OUT))/report.html"

test: setup  ## the quick tests on three processes; skips and their reasons are listed at the end
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slow'

test-slow: setup  ## the tests that take seconds each: whole studies, kills, long comparisons
	$(BIN)/python -m pytest -n $(JOBS) -m slow

test-lowest:  ## all tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PYTHON) tests/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --editable . -r .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pytest -n $(JOBS)

check: setup  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## put every file into the house format
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

bench: setup  ## speed of a training step beside other libraries (installs them)
	$(BIN)/python -m pip install --quiet --group peers
	$(BIN)/python benchmarks/student_step.py
	$(BIN)/python benchmarks/quanvolution.py

readme: setup  ## put figures and tables of the studies below runs/ into README.md
	$(BIN)/python docs/update_readme.py $(if $(filter command line,$(origin OUT)),$(OUT))

clean:  ## remove caches and build products; runs/ and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
