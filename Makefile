# Pushforward: every job is one target. The virtual environment in .venv is made on demand.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
HOST   ?= 127.0.0.1
PORT   ?= 8000
MODELS ?= models
DEVICE ?= auto
RUN    ?= runs/digits-vae
RECIPE ?= training/recipes/digits-vae.toml
PIP     = $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test lint check format bench curve profile proto report figure test-performance test-slow monitoring-check test-gpu train clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

serve: $(VENV)/service.installed ## serve the models on 127.0.0.1:8000 (PORT=, HOST=, MODELS=, DEVICE=auto|cpu|cuda)
	@exec $(BIN)/python -m service --host $(HOST) --port $(PORT) --models $(MODELS) --device $(DEVICE)

test: $(VENV)/develop.installed ## run the default tests, a process per core (under five minutes on two)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/develop.installed ## check format, ruff, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## everything CI checks: lint and test

format: $(VENV)/develop.installed ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/develop.installed ## train, evaluate, export and publish one recipe (RECIPE=training/recipes/NAME.toml)
	$(BIN)/python -m training run $(RECIPE) --models $(MODELS)

report: $(VENV)/develop.installed ## write a run's report as one HTML file (RUN=runs/NAME)
	$(BIN)/python -m training report $(RUN)

figure: $(VENV)/develop.installed ## draw GAN methods on ring and grid, training those without results (hours without them)
	$(BIN)/python -m training.figure

bench: $(VENV)/develop.installed ## measure the service beside raw ONNX Runtime and a naive server (needs wrk; BENCH=options)
	$(BIN)/python -m tests.performance.bench --json build/bench.json $(BENCH)

curve: $(VENV)/develop.installed ## draw how throughput and latency scale, as build/curve.png (needs wrk; BENCH=options)
	$(BIN)/python -m tests.performance.bench --curve build/curve.png $(BENCH)

profile: $(VENV)/develop.installed ## record where the service's time goes under load, in build/ (needs wrk)
	$(BIN)/python -m tests.performance.profiling

test-performance: $(VENV)/develop.installed ## check that the benchmark works, on short runs (needs wrk)
	$(BIN)/python -m pytest -m performance tests/performance

test-slow: $(VENV)/develop.installed ## train in several processes, kill one, resume; train as the README says; swap versions under load (minutes)
	$(BIN)/python -m pytest -m slow

monitoring-check: $(VENV)/develop.installed ## test the alerts, and run every rule and panel in a real Prometheus (apt: prometheus)
	$(BIN)/python -m pytest -m monitoring tests/monitoring

test-gpu: $(VENV)/develop.installed ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

proto: $(VENV)/bin/python ## compile the messages of the Open Inference Protocol, by a protoc older than its runtime
	@$(PYTHON) -m venv build/protoc && build/protoc/bin/pip install --quiet grpcio-tools==1.76.0
	build/protoc/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. service/api/open_inference/*.proto

clean: ## remove the virtual environment, the runs and the caches
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/service.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the service into $(VENV) (once, about half a minute) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/develop.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the service, training and the development tools into $(VENV) (once) ..."
	@$(PIP) --editable '.[train,dev]'
	@touch $@ $(VENV)/service.installed
