# Needs python3 (3.11 or later) with its venv module, git and make. Everything is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip reads the pins from its environment, so that they also hold for the build backend that it fetches by itself
# (newer versions of pip know that one by a name of its own).
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet
# A stamp is newer than the files that decide what is installed, or its step is done again.
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.installed-test

# Tests run side by side, as many as there are cores.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadgroup

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv demo crash-demo test test-http soak lint types rules bench clean

help:
	@echo "make demo        run the example workflow on this repository"
	@echo "make crash-demo  kill a run again and again, and see it end as if nothing had happened"
	@echo "make test        all tests"
	@echo "make test-http [PATH]  the tests of the HTTP service alone, or those in a file"
	@echo "make soak        the long tests of the HTTP service (about an hour)"
	@echo "make lint        style (ruff)"
	@echo "make types       types (mypy --strict)"
	@echo "make rules       which room may import which (import-linter)"
	@echo "make bench       measurements"
	@echo "make clean       remove the environment, caches and build products; runs are kept"

.venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing Perdure into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Perdure needs Python 3.11 or later; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(TESTABLE): $(INSTALLED)
	@echo "installing the test tools into $(VENV)"
	@$(PIP) --editable '.[test]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/perdure run examples/release_notes.py --input repo=.

crash-demo: $(INSTALLED)
	$(BIN)/python examples/crash_demo.py

test: $(TESTABLE)
	$(PYTEST)

# `make test-http tests/http/server/test_runs.py`: what stands behind the target is what is tested.
ifeq (test-http,$(firstword $(MAKECMDGOALS)))
HTTP_TESTS := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
.PHONY: $(HTTP_TESTS)
$(HTTP_TESTS): ;@:
endif

test-http: $(TESTABLE)
	$(PYTEST) $(or $(HTTP_TESTS),tests/http)

soak: $(TESTABLE)
	PERDURE_SOAK=1 $(PYTEST) tests/http tests/crash

lint: $(TESTABLE)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(TESTABLE)
	$(BIN)/mypy --strict perdure

rules: $(TESTABLE)
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.pipelines
	$(BIN)/python -m benchmarks.http

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
