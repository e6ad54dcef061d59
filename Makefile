# Embedfleet: `make help` lists the targets. Needs Python >= 3.11, make and a network to PyPI; nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 8000
DATA   ?= ./fleet-data

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo up test chaos chaos-short chaos-selftest saturation ledger-bench simulate check format docs lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/local ## Install, start a fleet, ingest examples/, run four searches, stop
	@$(BIN)/python examples/demo.py

up: $(VENV)/local ## Start a fleet on this machine and print its links (PORT=8000 DATA=./fleet-data)
	@$(BIN)/embedfleet up --port $(PORT) --data-dir $(DATA)

test: $(VENV)/dev ## Run every test: unit, property, conformance and end-to-end with the real processes
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not chaos" $(ARGS)
	@$(if $(ARGS),:,$(BIN)/python -m pytest tests/chaos -m chaos)

chaos: $(VENV)/dev ## Kill, stop and starve a real fleet and prove that nothing is lost (SEED=1 ARGS="C3 C4")
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m tests.chaos $(ARGS)

chaos-short: $(VENV)/dev ## The short form of it, on one shared fleet
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m pytest tests/chaos -m chaos $(ARGS)

chaos-selftest: $(VENV)/dev ## Take safeties out and plant faults, and prove that the suite notices
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m tests.chaos.selftest

saturation: $(VENV)/dev ## Offer a real fleet three times what it sustains and prove that it keeps its limits and its word
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m tests.saturation $(ARGS)

ledger-bench: $(VENV)/dev ## Measure what the ledger costs a task, in time, round trips and memory
	@$(BIN)/python -m benchmarks.ledger

simulate: $(VENV)/dev ## Run a day of mixed work on a simulated GPU with neighbours, against an oracle (under a minute)
	@$(BIN)/python -m benchmarks.simulation

check: $(VENV)/dev ## Lint, types, layers, generated references
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python docs/generate.py --check

format: $(VENV)/dev ## Format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

docs: $(VENV)/dev ## Write the generated references in docs/
	@$(BIN)/python docs/generate.py

lock: $(VENV)/dev ## Resolve and hash what the images install, into images/*/requirements.lock
	@sh images/lock.sh

clean: ## Remove the virtual environment and caches (not your data)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Embedfleet needs Python >= 3.11: make PYTHON=python3.11 ...")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/local: pyproject.toml | $(VENV)/pip
	@echo "installing embedfleet[local] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable ".[local]"
	@touch $@

$(VENV)/dev: pyproject.toml | $(VENV)/local
	@echo "installing the development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable ".[local]" --group dev
	@touch $@
