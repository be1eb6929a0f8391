# Every target makes .venv by itself, and installs again only when pyproject.toml changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check lint bench soak docs clean

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or newer is needed; name one with make PYTHON=python3.11 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[cpu,dashboard,service,dev]'
	touch $@

$(VENV)/.bench: $(STAMP)
	$(BIN)/pip install -q -e '.[cpu,bench]'
	touch $@

demo: $(STAMP)
	$(BIN)/phenoembed demo

test: $(STAMP)
	$(BIN)/pytest -m "not soak"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

bench: $(VENV)/.bench
	@for f in benchmarks/bench_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

soak: $(STAMP)
	$(BIN)/pytest -m soak --timeout 7200

docs: $(STAMP)
	$(BIN)/python docs/make_commands.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
