# Each target sets up what it needs in .venv. Python >= 3.11, make and PyPI are enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO ?= demo

.PHONY: demo test lint bench docs install install-dev clean

demo: install
	$(BIN)/morphsym demo -o $(DEMO) --overwrite

test: install-dev
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install-dev
	$(BIN)/python -m tests.benchmarks.run

docs: install-dev
	$(BIN)/python tools/cli_reference.py docs/cli.md

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "morphsym needs Python 3.11, 3.12 or 3.13; none was found on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e '.[dev,face-alignment,onnx,transformers,ray,stores]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf build .pytest_cache .ruff_cache .mypy_cache
