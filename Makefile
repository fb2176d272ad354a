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
# the files with tests of a marker, because reading all the others takes longer than many a test
MARKED  = $$(grep -rlE --include='test_*.py' '(mark|tests)\.$(1)\b' tests | sort)
PIP     = $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
# on all cores, where pip takes one; without it every start compiles what it imports wherever none is written
COMPILE = $(BIN)/python -m compileall -q -j 0 $(VENV)/lib pushforward service training >/dev/null 2>&1 || true
LOCK    = $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command 'make lock' \
          --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test test-optimised docs anomalies tables scores lint check format bench curve profile proto report figure test-performance test-slow test-bulk test-exports test-documentation test-published living-check monitoring-check test-gpu gpu-check train deploy-check image-check rolling-check diffusers-check wheel wheel-check bounds-check ray-check browser-check lock sbom soak fuzz-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

serve: $(VENV)/service.installed ## serve the models on 127.0.0.1:8000 (PORT=, HOST=, MODELS=, DEVICE=auto|cpu|cuda)
	@exec $(BIN)/python -m service --host $(HOST) --port $(PORT) --models $(MODELS) --device $(DEVICE)

test: $(VENV)/develop.installed ## run the default tests, a process per core (three and a half minutes on two)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-optimised: $(VENV)/develop.installed ## run tests under python -O, which leaves out assertions outside of tests (TESTS=tests)
	PYTHONOPTIMIZE=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -W 'ignore:assertions not in test modules' $(TESTS)

lint: $(VENV)/develop.installed ## check format, ruff, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin pushforward service training
	$(BIN)/lint-imports

docs: $(VENV)/docs.installed ## build the documentation site, strictly, as build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

check: lint test ## everything CI checks: lint and test

format: $(VENV)/develop.installed ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/develop.installed ## train, evaluate, export and publish one recipe (RECIPE=training/recipes/NAME.toml)
	$(BIN)/python -m training run $(RECIPE) --models $(MODELS)

anomalies: $(VENV)/develop.installed ## tabulate what anomaly scores are worth, training what has no result (half an hour without any)
	@$(PIP) --editable '.[peers]'
	$(BIN)/python -m training.experiments.anomalies

tables: $(VENV)/develop.installed ## tabulate anomaly scores on real tables beside other detectors (TABLES=FOLDER of NAME.npz with X and y)
	@$(PIP) --editable '.[peers]'
	$(BIN)/python -m training.experiments.tables $(TABLES)

scores: $(VENV)/develop.installed ## recompute the published figures of anomaly scoring through HTTP (MODEL=fashion-vae)
	$(BIN)/python -m tests.end_to_end.scores_over_http $(MODEL)

report: $(VENV)/develop.installed ## write a run's report as one HTML file (RUN=runs/NAME)
	$(BIN)/python -m training report $(RUN)

figure: $(VENV)/develop.installed ## draw GAN methods on ring and grid, training those without results (hours without them)
	$(BIN)/python -m training.experiments.figure

bench: $(VENV)/develop.installed ## measure the service and bulk work beside raw ONNX Runtime, a naive server and a floor (needs wrk; BENCH=options)
	@$(COMPILE)
	$(BIN)/python -m tests.performance.bench --json build/bench.json $(BENCH)

soak: $(VENV)/develop.installed ## load the service with everything for 15 minutes, and see what it leaves (SOAK='--minutes 1')
	$(BIN)/python -m tests.soak --json build/soak.json --picture build/soak.png $(SOAK)

curve: $(VENV)/develop.installed ## draw how throughput and latency scale, as build/curve.png (needs wrk; BENCH=options)
	$(BIN)/python -m tests.performance.bench --curve build/curve.png $(BENCH)

profile: $(VENV)/develop.installed ## record where the service's time goes under load, in build/ (needs wrk)
	$(BIN)/python -m tests.performance.profiling

test-performance: $(VENV)/develop.installed ## check that the benchmark works, on short runs (needs wrk)
	$(BIN)/python -m pytest -m performance tests/performance

test-slow: $(VENV)/develop.installed ## train in several processes, kill one, resume (minutes)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m slow $(call MARKED,slow)

test-bulk: $(VENV)/develop.installed ## share, stop and resume bulk work (minutes)
	$(BIN)/python -m pytest --numprocesses auto -m bulk $(call MARKED,bulk)

test-exports: $(VENV)/develop.installed ## export every kind of model and every likelihood (minutes)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m exports $(call MARKED,exports)

test-documentation: $(VENV)/develop.installed ## run what every page shows, and train as the README and the tutorials say (minutes)
	$(BIN)/python -m pytest -m documentation tests/documentation

test-published: $(VENV)/develop.installed ## check the promises on every published model (default tests: on two of them)
	$(BIN)/python -m pytest -m published $(call MARKED,published)

living-check: $(VENV)/develop.installed ## swap versions under load, kill replicas, and meet slow clients (minutes)
	$(BIN)/python -m pytest -m living tests/end_to_end

browser-check: $(VENV)/browser.installed ## drive the page in Chromium, every panel (apt: chromium; two minutes)
	$(BIN)/python -m pytest -m browser tests/browser

monitoring-check: $(VENV)/develop.installed ## test the alerts, and run every rule and panel in a real Prometheus (apt: prometheus prometheus-alertmanager)
	$(BIN)/python -m pytest -m monitoring tests/monitoring tests/end_to_end

fuzz-check: $(VENV)-fuzz/installed $(VENV)/develop.installed ## make bodies and requests for every parser and path (FUZZ_SEED=n; five minutes)
	$(BIN)/python -m pytest -m fuzz tests/fuzz

test-gpu: $(VENV)/develop.installed ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(call MARKED,gpu)

gpu-check: DEVICE = cuda
gpu-check: ## find out what only a GPU can tell, in 8 minutes, as build/gpu-check.md (DEVICE=cuda|cpu, CHECK=options)
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m tests.performance.gpu_check --device $(DEVICE) $(CHECK)

diffusers-check: $(VENV)/diffusers.installed ## have diffusers itself read, and use remotely, what is published and served
	$(BIN)/python -m pytest -m diffusers tests/pushforward/publishing

proto: $(VENV)/bin/python ## compile the messages of the Open Inference Protocol, by a protoc older than its runtime
	@$(PYTHON) -m venv build/protoc && build/protoc/bin/pip install --quiet grpcio-tools==1.76.0
	build/protoc/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. service/api/open_inference/*.proto

deploy-check: $(VENV)/deploy.installed $(VENV)-checkov/installed deploy/monitoring/prometheus-rule.yaml ## render, validate and lint deploy/ (needs kubectl)
	$(BIN)/python -m pytest -m deploy tests/deploy

image-check: $(VENV)/deploy.installed ## build the image and run it hardened (needs root, buildah, runc, debootstrap)
	$(BIN)/python -m pytest -m image -rs -s tests/deploy

rolling-check: $(VENV)/develop.installed ## restart replicas behind haproxy fifty times under load (needs haproxy; minutes)
	$(BIN)/python -m pytest -m rolling -rs -s tests/deploy

wheel: $(VENV)-wheel/installed ## build and check the wheel and the source archive, in build/dist
	@rm -rf build/dist
	$(VENV)-wheel/bin/python -m build --no-isolation --outdir build/dist
	$(VENV)-wheel/bin/twine check --strict build/dist/*

wheel-check: wheel $(VENV)/develop.installed ## use the wheel in an empty environment of each supported Python that is found (minutes)
	$(BIN)/python -m pytest -m wheel tests/pushforward/test_wheel.py

bounds-check: $(VENV)/deploy.installed ## run the default tests on the lowest and on the newest packages that pyproject.toml permits (a quarter of an hour)
	for versions in lowest-direct highest; do \
	  $(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python $(VENV)-$$versions && \
	  $(BIN)/uv pip install --quiet --python $(VENV)-$$versions/bin/python --resolution $$versions --editable '.[train,dev]' && \
	  $(VENV)-$$versions/bin/python -m pytest --numprocesses auto --dist loadfile || exit; \
	done

ray-check: $(VENV)-ray/installed ## do bulk work on Ray Data, and kill an actor in the middle (a virtual environment of its own)
	$(VENV)-ray/bin/python -m pytest -m ray tests/pushforward/bulk

lock: $(VENV)/deploy.installed ## pin the images' packages by hash, as constraints.txt has them
	$(LOCK) --output-file deploy/requirements-cpu.txt --override deploy/overrides-cpu.txt --extra grpc --extra traces pyproject.toml
	$(LOCK) --output-file deploy/requirements-gpu.txt --extra cuda --extra grpc --extra traces pyproject.toml
	$(LOCK) --output-file deploy/requirements-train.txt --extra train pyproject.toml
	$(LOCK) --output-file deploy/requirements-bulk.txt --override deploy/overrides-cpu.txt --extra ray --extra remote \
	  pyproject.toml deploy/requirements-bulk.in
	echo 'setuptools>=77' | $(LOCK) --output-file deploy/requirements-build.txt -

sbom: $(VENV)/deploy.installed ## write what the images hold as CycloneDX, in build/
	@mkdir -p build
	for image in bulk cpu gpu train; do \
	  $(BIN)/cyclonedx-py requirements --output-file build/sbom-$$image.cdx.json deploy/requirements-$$image.txt; \
	done

deploy/monitoring/prometheus-rule.yaml: deploy/monitoring/recording-rules.yaml deploy/monitoring/alert-rules.yaml
	@{ echo '# Written by make from the rule files beside it.'; \
	for rules in $^; do \
	  printf -- '---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n'; \
	  printf 'metadata:\n  name: pushforward-%s\nspec:\n' "$$(basename $$rules .yaml)"; \
	  sed -e 's/^/  /' -e 's/ *$$//' $$rules; \
	done; } >$@

clean: ## remove the virtual environment, the runs and the caches
	rm -rf $(VENV) $(VENV)-checkov $(VENV)-fuzz $(VENV)-highest $(VENV)-lowest-direct $(VENV)-ray $(VENV)-wheel runs build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/service.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the service into $(VENV) (once, about half a minute) ..."
	@$(PIP) --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/deploy.installed: pyproject.toml constraints.txt $(VENV)/develop.installed
	@$(PIP) --editable '.[train,dev,deploy]'
	@$(COMPILE)
	@touch $@

$(VENV)/browser.installed: pyproject.toml constraints.txt $(VENV)/develop.installed
	@$(PIP) --editable '.[train,dev,browser]'
	@touch $@

$(VENV)/diffusers.installed: pyproject.toml constraints.txt $(VENV)/develop.installed
	@$(PIP) --editable '.[train,dev,diffusers]'
	@touch $@

$(VENV)/docs.installed: pyproject.toml constraints.txt $(VENV)/develop.installed
	@$(PIP) --editable '.[train,dev,docs]'
	@$(COMPILE)
	@touch $@

$(VENV)-checkov/installed: deploy/checkov.txt # apart, because its hundred pins would bind the others
	@$(PYTHON) -m venv $(VENV)-checkov
	@$(VENV)-checkov/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --requirement $<
	@touch $@

$(VENV)-wheel/installed: constraints.txt # apart: only building needs these
	@$(PYTHON) -m venv $(VENV)-wheel
	@$(VENV)-wheel/bin/python -m pip --disable-pip-version-check install --quiet --no-compile \
	  --constraint constraints.txt build setuptools twine
	@touch $@

$(VENV)-fuzz/installed: # apart, because its pins are not ours
	@$(PYTHON) -m venv $(VENV)-fuzz
	@$(VENV)-fuzz/bin/python -m pip --disable-pip-version-check install --quiet --no-compile schemathesis==4.32.5
	@touch $@

$(VENV)-ray/installed: pyproject.toml constraints.txt # apart, because Ray is larger than all the rest of the development tools
	@$(PYTHON) -m venv $(VENV)-ray
	@$(VENV)-ray/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt \
		--editable '.[dev,ray]' onnx scipy
	@touch $@

$(VENV)/develop.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the service, training and the development tools into $(VENV) (once) ..."
	@$(PIP) --editable '.[train,dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/service.installed
