# Every command a person types here. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.DEFAULT_GOAL := help

SANDBOX := $(VENV)/.installed-sandbox
DEV := $(VENV)/.installed-dev

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Prepaid needs Python 3.11 or later; name one with make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(SANDBOX): requirements/sandbox.txt pyproject.toml sandbox/pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sandbox.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e ./sandbox
	@touch $@

$(DEV): requirements/dev.txt clients/python/pyproject.toml $(SANDBOX)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./clients/python
	@touch $@

.PHONY: install
install: $(DEV) ## Install what development needs; every command below does so where it is missing

.PHONY: up
up: $(SANDBOX) ## Start everything, run the story, keep serving until Ctrl-C (DEMO=0 skips the story)
	@exec $(BIN)/prepaid dev

# Bytecode caching stays on, whatever the environment says: otherwise each of the suite's many processes
# would compile the project again, and pytest its plugins.
coverage mutants test thorough: export PYTHONDONTWRITEBYTECODE =

.PHONY: test
test: $(DEV) ## Run the whole test suite in parallel processes, each with embedded servers of its own
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: thorough
thorough: export PREPAID_TEST_PROFILE = thorough
thorough: test ## Run the suite with all of its random cases, about five times as many

.PHONY: test-matrix
test-matrix: $(DEV) ## Run the suite on the embedded servers, then on Debian's PostgreSQL 15 and Redis 7
	tests/matrix.sh

.PHONY: coverage
coverage: $(DEV) ## Run the suite with coverage of lines and branches, also in the processes that it starts; fail below 95 %
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

.PHONY: format
format: $(DEV) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lint
lint: $(DEV) ## Format, lint, types and architecture rules, without tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: $(DEV) ## Build the documentation site into build/site; fail on a broken link
	$(BIN)/python -m docs.build

.PHONY: check
check: export PREPAID_CHAOS_SECONDS ?= 60
check: lint docs test ## What CI runs: lint, docs, and the suite with a minute of chaos

.PHONY: audit
audit: $(DEV) ## Look for known vulnerabilities of the locked dependencies, where the data can be reached
	$(BIN)/python -m tests.audit

.PHONY: mutants
mutants: $(DEV) ## Bring known bugs into a copy of the code, one at a time; the suite must find each
	$(BIN)/python -m tests.mutants $(ARGS)

MUTATION := $(VENV)/.installed-mutation
$(MUTATION): requirements/mutation.txt $(DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/mutation.txt
	@touch $@

.PHONY: mutation
mutation: $(MUTATION) ## Change every expression of the pure rules, one at a time; print what no unit test finds
	$(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

.PHONY: bench
bench: $(DEV) ## Print the benchmark table: ratios against baselines of the same run; parts by ARGS="ingest api", each ROUNDS=3 times
	$(BIN)/python -m bench $(ARGS)

.PHONY: attack
attack: $(DEV) ## Attack a web process with hostile requests for SECONDS=30 with SEED=1; print the failures and resource use
	ATTACK_SECONDS=$(or $(SECONDS),30) ATTACK_SEED=$(or $(SEED),1) $(BIN)/python -m bench attack

chaos: export PYTHONDONTWRITEBYTECODE =

.PHONY: chaos
chaos: $(DEV) ## Random traffic and faults for SECONDS=60 with SEED=1, then an audit of every guarantee
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(ARGS)

.PHONY: explore
explore: $(DEV) ## Visit every interleaving of recharges and events within FAULTS=2 faults; then remove rules in turn
	$(BIN)/python -m tests.explorer --faults $(or $(FAULTS),2) $(ARGS)

.PHONY: client-types
client-types: $(DEV) ## Write the types of the Python client from the API's document
	@mkdir -p build
	$(BIN)/python -m tests.openapi_document | $(BIN)/python clients/python/generate_types.py > build/types.py
	@mv build/types.py clients/python/src/prepaid_client/types.py

LITELLM := .venv-litellm/.installed
$(LITELLM): requirements/litellm.txt
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/litellm.txt
	@touch $@

.PHONY: litellm
litellm: $(LITELLM) ## Install LiteLLM (380 MB) beside the rest, for the test of the Python client's callback

.PHONY: lock
lock: $(DEV) ## Lock the dependencies again, with hashes
	@for set in build runtime sandbox dev mutation litellm; do \
	  $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header requirements/$$set.in -o requirements/$$set.txt $(ARGS); done
