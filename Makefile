# Everything a newcomer or CI runs. Needs Python >= 3.10 and make; builds its own virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
# Azurite needs Node.js. Where the machine has none, a wheel of it is installed beside us.
NODE_EXTRA := $(shell command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || echo '[local]')
DEMO_OUTPUT := outputs

.PHONY: help demo test test-failed lint bench stress clean
help:
	@echo "make demo    run eight pricing tasks on this machine (no Azure account needed)"
	@echo "make test    run the tests"
	@echo "make lint    ruff, mypy --strict and the architecture test"
	@echo "make bench   print every figure beside what you would use instead"
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
	$(BIN)/python -m pip install -q -e '.[all,dev]'
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

bench: .venv/dev.done
	$(BIN)/python -m bench

clean:
	rm -rf .venv .cache $(DEMO_OUTPUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
