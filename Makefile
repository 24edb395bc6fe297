# mediabus: `make run` starts everything on this machine, `make test` runs the test suite.
# Needs Python 3.11 or newer; everything else is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
NEEDS := import sys; sys.exit(sys.version_info < (3, 11))

# The wire tests are written in JavaScript. Without npm they are skipped with a message.
WIRE := $(and $(shell command -v npm 2>/dev/null),$(wildcard tests/wire/package-lock.json),tests/wire/node_modules/.package-lock.json)

.PHONY: help run test retest coverage clients-newer check format bench screenshots fuzz chaos reference docs lock sbom install clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/installed ## run everything on this machine; set it up with variables such as MEDIABUS_DATA_DIR
	@exec $(BIN)/mediabus up

test: .venv/installed $(WIRE) ## run the whole test suite; ARGS="-k word" is passed to pytest
	$(BIN)/pytest --numprocesses=4 --dist=worksteal $(ARGS)

retest: .venv/installed ## run the tests that failed last again, one at a time; fails if they are more than 5
	@$(BIN)/python -c 'import json; failed = json.load(open(".pytest_cache/v/cache/lastfailed")); \
		assert len(failed) <= 5, f"{len(failed)} tests failed"'
	$(BIN)/pytest --last-failed --last-failed-no-failures=none $(ARGS)

coverage: .venv/installed $(WIRE) ## the same, with a report of the lines that no test reaches
	$(BIN)/pytest --numprocesses=4 --dist=worksteal --cov --cov-report=term:skip-covered $(ARGS)

clients-newer: .venv/installed ## test the download clients' versions of Debian sid; needs root and debootstrap
	$(BIN)/python -m tests.newer $(ARGS)

check: .venv/installed ## check formatting, lint, types, import contracts and the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m website check

format: .venv/installed ## format the code and sort its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: .venv/installed ## measure the speed and compare it with peers; ARGS=--quick takes a minute
	$(BIN)/python -m bench $(ARGS)

screenshots: .venv/installed ## take screenshots of every page, on a day with two real download clients
	$(BIN)/python -m tests.web.screenshots $(ARGS)

fuzz: .venv/installed ## fuzz client adapters and applications (EXAMPLES=2000 each), then the codec; ARGS is passed to atheris
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install -qq \
		--disable-pip-version-check --no-deps --require-hashes --requirement locks/fuzz.txt
	$(BIN)/python -m tests.fuzz_clients --examples $(or $(EXAMPLES),2000)
	$(BIN)/python -m tests.fuzz_apps --examples $(or $(EXAMPLES),2000)
	$(BIN)/python -m tests.fuzz_codec $(ARGS)

chaos: .venv/installed ## inject 200 random faults under load; options in ARGS="--seed 7 --seconds 60"
	$(BIN)/python -m chaos $(ARGS)

reference: .venv/installed ## write the reference pages of docs/ again: settings, command line, events, Python API
	$(BIN)/python -m website reference

docs: .venv/installed ## build the documentation site, dist/site; fails on a dead link
	$(BIN)/python -m website build

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --upgrade

lock: .venv/installed ## pin the newest versions that pyproject.toml allows, in locks/
	$(LOCK) --extra embedded --extra notify --extra mqtt --extra otel --extra dev pyproject.toml --output-file locks/dev.txt
	$(LOCK) --extra notify --extra mqtt --extra otel --constraint locks/dev.txt pyproject.toml --output-file locks/run.txt
	$(LOCK) --extra embedded --extra notify --extra mqtt --extra otel --constraint locks/dev.txt pyproject.toml --output-file locks/home.txt
	echo 'hatchling' | $(LOCK) --constraint locks/dev.txt - --output-file locks/build.txt
	echo 'atheris>=3' | $(LOCK) - --output-file locks/fuzz.txt
	$(LOCK) bench/peers/requirements.in --output-file locks/peers.txt
	$(LOCK) --python-version 3.13 bench/peers/pull.in --output-file locks/pull.txt

SBOM ?= dist/mediabus.cdx.json

sbom: .venv/installed ## write the software bill of materials, dist/mediabus.cdx.json (CycloneDX)
	@mkdir -p $(dir $(SBOM))
	$(BIN)/python -W ignore -m cyclonedx_py requirements locks/home.txt --pyproject pyproject.toml \
		--mc-type application --output-reproducible --output-file $(SBOM)

install: .venv/installed ## install into .venv

clean: ## remove all generated files, except your data in mediabus-data
	rm -rf .venv .venv-peers .venv-pythons dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf .coverage* htmlcov tests/wire/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml locks/dev.txt
	@$(PYTHON) -c '$(NEEDS)' 2>/dev/null || \
		{ echo "mediabus needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
		  echo "Choose another one: make PYTHON=python3.13 ..."; exit 1; } >&2
	@test -x $(BIN)/python && $(BIN)/python -c '$(NEEDS)' || $(PYTHON) -m venv --clear .venv || \
		{ echo "Cannot create .venv. On Debian and Ubuntu, install python3-venv: apt install python3-venv"; exit 1; } >&2
	@echo "installing into .venv, which takes a minute ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--no-deps --require-hashes --requirement locks/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@

tests/wire/node_modules/.package-lock.json: tests/wire/package-lock.json
	npm ci --prefix tests/wire --no-audit --no-fund
	@touch $@
