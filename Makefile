# make demo: installs, trains pointer_chase for about two minutes on a CPU, shows its ponder map.
# make test: installs what is missing, runs the whole suite.
# make docs: builds the documentation site into site/, and fails on a broken link.
# Needed beforehand: Python 3.11 or newer, make, a C++ compiler and git.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test docs lint format clean

help:
	@echo "make demo     install, train pointer_chase (about 2 minutes on a CPU), show its ponder map"
	@echo "make test     install what is missing, run the whole test suite"
	@echo "make docs     build the documentation site into site/"
	@echo "make lint     ruff, pyright, import-linter, lengths of files and folders"
	@echo "make format   have ruff put the code in shape"
	@echo "make clean    remove .venv and what tools left behind; runs/ stays"

# Installed again only when pyproject.toml or constraints.txt is newer than the last time. An existing .venv is used as it is.
# torch comes first: DeepSpeed looks at it while it is built, which therefore happens in this environment.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "ponderloop needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
			echo "Name another one: make PYTHON=/path/to/python3.12" >&2; exit 1; }; \
		echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing into .venv (some minutes the first time)"
	$(PIP) setuptools wheel numpy torch
	DS_BUILD_OPS=0 $(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/ponder train pointer_chase
	$(BIN)/ponder show

test: $(STAMP)
	$(BIN)/python tools/browser.py
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

docs: $(STAMP)
	$(BIN)/python -m zensical build --clean --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_file_length.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv site .cache build dist ponderloop.egg-info .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
