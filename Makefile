# Everything a newcomer or CI runs. Needs Python >= 3.10 and make; builds its own virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
# Azurite needs Node.js. Where the machine has none, a wheel of it is installed beside us.
NODE_EXTRA := $(shell command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || echo '[local]')
DEMO_OUTPUT := outputs
# Images need a container engine. PIP_CONF names a pip.conf with a package index of your own; no trace of it is left.
CONTAINER_ENGINE ?= docker
PIP_SECRET = id=pip.conf,src=$(PIP_CONF)
BUILD = $(CONTAINER_ENGINE) build $(BUILD_OPTIONS) \
	$(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) $(if $(PIP_CONF),--secret $(PIP_SECRET))
BATCH_IMAGE ?= batch-processor:dev
SPEECH_IMAGE ?= azbatchwrap/speech-batch-kit

.PHONY: help demo test test-failed lint docs bench stress image image-build-batch env-dev-kind clean
help:
	@echo "make demo    run eight pricing tasks on this machine (no Azure account needed)"
	@echo "make test    run the tests"
	@echo "make lint    ruff, mypy --strict and the architecture test"
	@echo "make docs    the documents and the reference as pages, in build/docs"
	@echo "make bench   print every figure beside what you would use instead"
	@echo "make stress  kills and outages for some minutes: nothing may be lost"
	@echo "make image   the container image of run-batch-client (image-build-batch: of the processor)"
	@echo "make clean   remove what these commands made in this folder"

.venv/pip.done:
	@$(PYTHON) -c 'import sys; sys.exit("azbatchwrap needs Python 3.10 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	@touch $@

.venv/base.done: .venv/pip.done pyproject.toml
	$(BIN)/python -m pip install -q -e '.$(NODE_EXTRA)'
	@touch $@

.venv/dev.done: .venv/base.done
	$(BIN)/python -m pip install -q -e '.[all,dev,docs]'
	@touch $@

demo: .venv/base.done
	@$(BIN)/python examples/demo.py $(DEMO_OUTPUT)

test: .venv/dev.done
	$(BIN)/python -m pytest -n 2 --dist loadscope -q

# Only what failed in the last run.
test-failed: .venv/dev.done
	$(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Every warning is an error: a name that is not there, a heading that nobody links to any more.
docs: .venv/dev.done
	$(BIN)/sphinx-build -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

# Minutes of kills and outages; each prints what it saw and fails when something was lost or doubled.
stress: .venv/dev.done
	$(BIN)/python -m tests.stress.batchkit
	$(BIN)/python tests/stress/local_batch_kill.py
	$(BIN)/python tests/stress/session.py
	$(BIN)/python tests/stress/processor_kill.py sqlite redis
	$(BIN)/python tests/stress/processor_outage.py

bench: .venv/dev.done
	$(BIN)/python -m bench

image:
	$(BUILD) -t $(SPEECH_IMAGE) -f deploy/speech/Dockerfile .

image-build-batch:
	$(BUILD) -t $(BATCH_IMAGE) -f deploy/processor/Dockerfile .

# A kind cluster with the processor in it; with BATCH_REDIS_ENABLED=true also a Redis server.
env-dev-kind: image-build-batch
	BATCH_IMAGE=$(BATCH_IMAGE) deploy/processor/kind/up.sh

clean:
	rm -rf .venv .cache $(DEMO_OUTPUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
