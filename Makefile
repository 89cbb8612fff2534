# `make run` and `make test` are all that a newcomer needs. Each first installs what it uses into .venv.

PYTHON ?= python3
PORT ?= 5984
DATA ?= couchdal.db
BIN := .venv/bin
CLIENTS := tests/foreign_clients
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# Each stamp is written last, so that make repeats an interrupted installation.
RUN_READY := .venv/.run-ready
PYTHON_READY := .venv/.ready
NODE_READY := $(CLIENTS)/node_modules/.ready
BENCH_READY := bench/express/node_modules/.ready
FUZZ_READY := .venv/.fuzz-ready
PYRIGHT_READY := tools/pyright/node_modules/.ready
PYRIGHT := PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=src tools/pyright/node_modules/.bin/pyright
# Hundreds of processes that the tests start import couchdal. With cached bytecode they start in half the time.
unexport PYTHONDONTWRITEBYTECODE
NODE_TARGET := $(if $(and $(shell command -v node),$(shell command -v npm)),$(NODE_READY),without-node)

.PHONY: help setup run test soak simulate fuzz check types without-pyright versions format docs parity bench without-node without-fuzzing

help:
	@echo "make run       serve an emulated CouchDB on port 5984 (PORT=... takes another, DATA=... another file for its data)"
	@echo "make test      run the tests (ARGS=... is passed to pytest)"
	@echo "make soak      run the long tests, and the random tests with more examples"
	@echo "make simulate  simulate servers, clients and their failures (SEED=... repeats a run, MINUTES=... tries more)"
	@echo "make fuzz      fuzz the parsers, guided by coverage (MINUTES=... for each, PARSERS=... for some)"
	@echo "make check     check format, lint, types and the documentation"
	@echo "make types     check with pyright that every public name is typed"
	@echo "make versions  run the quick tests on each supported Python that is installed"
	@echo "make format    format the code"
	@echo "make docs      build the documentation in site/"
	@echo "make parity    compare with the recorded answers of CouchDB (COUCHDB_URL=... replays them on a server)"
	@echo "make bench     measure speed, beside mongomock, orjson and other servers"
	@echo "make setup     install everything that these commands need"

setup: $(PYTHON_READY) $(NODE_TARGET)

define make_venv
@command -v $(PYTHON) >/dev/null \
  || { echo "couchdal needs Python 3.11 or later, and there is no $(PYTHON); name yours: make PYTHON=/path/to/python"; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "couchdal needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version`; name another: make PYTHON=..."; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
  || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
@test -x $(BIN)/python || $(PYTHON) -m venv .venv
endef

# couchdal itself is not installed for this: Python imports it from src.
$(RUN_READY): requirements/use.txt
	$(make_venv)
	@echo "Installing the `grep -c == $<` packages that couchdal uses into .venv ..."
	@$(PIP) --require-hashes -r $<
	@touch $@

$(PYTHON_READY): requirements/dev.txt pyproject.toml
	$(make_venv)
	@echo "Installing `grep -c == $<` packages for development (300 MB) into .venv; this takes a minute or two ..."
	@$(PIP) --require-hashes -r $<
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@ $(RUN_READY)

# Without install scripts: the one native module has its binaries in its package.
$(NODE_READY): $(CLIENTS)/package.json $(CLIENTS)/package-lock.json
	@echo "Installing the npm packages of the PouchDB tests ..."
	@cd $(CLIENTS) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

without-node:
	@echo "Without Node.js 18 or later and npm, the PouchDB tests are skipped (Debian and Ubuntu: apt-get install nodejs npm)."

# The examples are printed only when the server listens. The pipe's reader ignores Ctrl-C: it ends with the server.
run: $(RUN_READY)
	@trap : INT; PYTHONPATH=src $(BIN)/python -m couchdal.cli serve --data $(DATA) --port $(PORT) | { \
	  trap '' INT; \
	  read -r line || { echo "The server did not start. To use another port: make run PORT=5985"; exit 1; }; \
	  url=$${line#listening at }; url=$${url%% *}; \
	  echo "$$line"; \
	  echo "Try in another terminal:"; \
	  echo "  curl -X PUT  $$url/tasks"; \
	  echo "  curl -X POST $$url/tasks -H 'Content-Type: application/json' -d '{\"type\": \"task\"}'"; \
	  echo "  curl -X POST $$url/tasks/_find -H 'Content-Type: application/json' -d '{\"selector\": {\"type\": \"task\"}}'"; \
	  echo "  curl '$$url/tasks/_changes?feed=continuous&timeout=60000'"; \
	  echo "Ctrl-C stops the server. Its data stays in $(DATA); to begin anew, remove that file."; \
	  cat; }

test: setup
	@echo "Running the tests takes about 10 minutes on two cores. The long tests are in: make soak"
	@# Worksteal gives idle workers the tests of others: some tests compute, and some wait.
	@$(PYTEST) $(ARGS)

soak: setup
	@echo "The long tests take about an hour on two cores."
	@SOAK=1 $(PYTEST) -m "soak or random" $(ARGS)
	@$(MAKE) --no-print-directory simulate MINUTES=10
	@$(MAKE) --no-print-directory $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),fuzz MINUTES=2,without-fuzzing)

without-fuzzing:
	@echo "The fuzzer has no package for this machine, so fuzzing is skipped. The tests replay its inputs."

# Without a seed, one is chosen and printed.
simulate: $(PYTHON_READY)
	@$(BIN)/python tools/simulate.py $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

fuzz: $(FUZZ_READY)
	@$(BIN)/python tools/fuzz.py --minutes $(or $(MINUTES),5) $(PARSERS)

# Only fuzzing needs it, and it is not made for every machine.
$(FUZZ_READY): $(PYTHON_READY) requirements/fuzz.txt
	@$(PIP) --require-hashes -r requirements/fuzz.txt
	@touch $@

check: $(PYTHON_READY)
	$(BIN)/ruff format --check src tests bench tools examples
	$(BIN)/ruff check src tests bench tools examples
	$(BIN)/mypy
	@$(MAKE) --no-print-directory $(if $(findstring $(NODE_READY),$(NODE_TARGET)),types,without-pyright)
	$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_layout.py tests/test_docs.py

# The types that users' checkers see: in the example applications, and of every public name.
types: $(PYTHON_READY) $(PYRIGHT_READY)
	@$(PYRIGHT) examples
	@report=$$($(PYRIGHT) --verifytypes couchdal --ignoreexternal) \
	  || { echo "$$report" | sed -n '/^Symbols used/,$$p'; exit 1; }

without-pyright:
	@echo "Without Node.js 18 or later and npm, pyright does not run (Debian and Ubuntu: apt-get install nodejs npm)."
	@test -z "$$CI"

$(PYRIGHT_READY): tools/pyright/package.json tools/pyright/package-lock.json
	@echo "Installing pyright ..."
	@cd tools/pyright && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

versions: $(PYTHON_READY)
	@.ci/versions

format: $(PYTHON_READY)
	$(BIN)/ruff check --fix-only --quiet src tests bench tools examples
	$(BIN)/ruff format src tests bench tools examples

docs: $(PYTHON_READY)
	$(BIN)/python tools/make_docs.py
	@# The theme announces its successor otherwise.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

parity: $(PYTHON_READY)
	@COUCHDB_URL="$(COUCHDB_URL)" $(BIN)/python -m pytest tests/parity/test_transcripts.py -q --no-header -n auto

# `make setup` does not install the npm packages that only the benchmarks use.
$(BENCH_READY): bench/express/package.json bench/express/package-lock.json
	cd bench/express && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

bench: $(PYTHON_READY) $(if $(findstring $(NODE_READY),$(NODE_TARGET)),$(BENCH_READY))
	$(BIN)/python -m pytest bench --benchmark-disable-gc --benchmark-columns=median,min,rounds
