# Every target sets up what it needs. The default is the help.
PYTHON ?= python3
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --dist=worksteal
COVERAGE := --cov --cov-report=term

.PHONY: help install native studio demo demo-words test test-coverage test-all torture soak check format docs bench clean

help:
	@echo "make demo        install, then train, evaluate and predict on bundled data"
	@echo "make demo-words  the reverse dictionary: definition -> one of 128,000 words"
	@echo "make test        the tests (a few minutes)"
	@echo "make test-all    all tests, slow ones too"
	@echo "make torture     kills, faults, damage and odd input for MINUTES=10, with a table of what went wrong"
	@echo "make soak        a server asked for MINUTES=10, and the memory and open files that it gains"
	@echo "make check       format, lint, types, links and docstrings of the documentation"
	@echo "make docs        the documentation, in build/docs/index.html"
	@echo "make native      compiled kernels, which make some answers faster; needs a C compiler"
	@echo "make studio      the page Studio, built into the package; needs Node"
	@echo "make bench       every benchmark, shortened, with its table (half an hour)"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

native: $(STAMP)
	$(BIN)/python -m pip install --quiet ./native

demo: $(STAMP)
	$(BIN)/widemax demo

demo-words: $(STAMP)
	$(BIN)/widemax demo words

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-coverage: $(STAMP)
	$(PYTEST) -m "not slow" $(COVERAGE)

test-all: $(STAMP)
	$(PYTEST) --hypothesis-profile=thorough

torture: $(STAMP)
	$(BIN)/python -m tests.torture --minutes $(MINUTES)

soak: $(STAMP)
	$(BIN)/python -m benchmarks.serving --soak $(MINUTES)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/sphinx-build -q -E -W --keep-going -b dummy docs build/docs-check -d build/doctrees

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/sphinx-build -q -E -W --keep-going -j auto docs build/docs -d build/doctrees

studio:
	npm ci --prefix studio --no-audit --no-fund
	npm run build --prefix studio

bench: $(STAMP)
	$(BIN)/python -m benchmarks --quick

clean:
	rm -rf $(VENV) build native/build docs/reference dist .mypy_cache .pytest_cache .ruff_cache
