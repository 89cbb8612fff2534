# `make run` and `make test` are all that a newcomer needs; both set up what they use first.

PYTHON ?= python3
PORT ?= 5984
BIN := .venv/bin
CLIENTS := tests/foreign_clients
# Written last, so that an interrupted set-up is done again.
PYTHON_READY := .venv/.ready
NODE_READY := $(CLIENTS)/node_modules/.ready
BENCH_READY := bench/express/node_modules/.ready
NODE_TARGET := $(if $(and $(shell command -v node),$(shell command -v npm)),$(NODE_READY),without-node)

.PHONY: help setup run test check format docs parity bench without-node

help:
	@echo "make setup    make .venv, and the packages that the PouchDB tests use"
	@echo "make run      serve an embedded CouchDB on port 5984 (PORT=...)"
	@echo "make test     run all tests (ARGS=... goes to pytest)"
	@echo "make check    format, lint, types, tidiness"
	@echo "make format   write what the format check asks for"
	@echo "make docs     build the documentation in site/"
	@echo "make parity   the recorded transcripts by area (COUCHDB_URL=... runs them on that server)"
	@echo "make bench    speed, beside mongomock, orjson and other servers"

setup: $(PYTHON_READY) $(NODE_TARGET)

$(PYTHON_READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "couchdal needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version`. Name another: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# No install scripts: the one native module ships its binaries inside its package.
$(NODE_READY): $(CLIENTS)/package.json $(CLIENTS)/package-lock.json
	cd $(CLIENTS) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

without-node:
	@echo "Node.js 18 or later with npm is missing: the PouchDB tests cannot run (on Debian and Ubuntu, apt-get install nodejs npm)"

run: $(PYTHON_READY)
	@echo "Try, in another terminal:"
	@echo "  curl -X PUT  http://127.0.0.1:$(PORT)/tasks"
	@echo "  curl -X POST http://127.0.0.1:$(PORT)/tasks -H 'Content-Type: application/json' -d '{\"type\": \"task\"}'"
	@echo "  curl -X POST http://127.0.0.1:$(PORT)/tasks/_find -H 'Content-Type: application/json' -d '{\"selector\": {\"type\": \"task\"}}'"
	@echo "  curl 'http://127.0.0.1:$(PORT)/tasks/_changes?feed=continuous&timeout=60000'"
	@echo "Ctrl-C ends it; nothing is kept."
	@$(BIN)/couchdal serve --backend memory --port $(PORT)

test: setup
	@# Each worker begins with its own part: some tests compute, and some wait.
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(PYTHON_READY)
	$(BIN)/ruff format --check src tests bench tools examples
	$(BIN)/ruff check src tests bench tools examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_docs.py

format: $(PYTHON_READY)
	$(BIN)/ruff check --fix-only --quiet src tests bench tools examples
	$(BIN)/ruff format src tests bench tools examples

docs: $(PYTHON_READY)
	$(BIN)/mkdocs build --quiet --strict

parity: $(PYTHON_READY)
	@COUCHDB_URL="$(COUCHDB_URL)" $(BIN)/python -m pytest tests/parity/test_transcripts.py -q --no-header -n auto

# What only the benchmarks need of npm is not part of the set-up.
$(BENCH_READY): bench/express/package.json bench/express/package-lock.json
	cd bench/express && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

bench: $(PYTHON_READY) $(if $(findstring $(NODE_READY),$(NODE_TARGET)),$(BENCH_READY))
	$(BIN)/python -m pytest bench --benchmark-disable-gc --benchmark-columns=median,min,rounds
