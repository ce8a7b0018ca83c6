# The two commands are `make demo` and `make test`; both install what they need into .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0
export OPENBLAS_NUM_THREADS := 1
# Empty is off: the many processes that tests start read compiled modules instead of compiling each anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install install-dev install-bench demo test check clean

install: $(VENV)/installed

install-dev: $(VENV)/installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || python3 -m venv $(VENV)

# torch first and pinned: a later resolve would take a build with several GB of CUDA.
$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing torch (about half a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check torch==2.13.0
	@echo "installing fedrank and what it needs (about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what the tests need (about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,simulation]'
	@touch $@

# What `fedrank bench` uses beyond that: another simulator beside ours, and the multilingual encoder.
install-bench: install-dev
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[bench,text]'

demo: install
	$(BIN)/python fedrank/demo.py --run $(RUN)

test: install-dev
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		echo "PostgreSQL is not installed, so its tests skip; for all tests: apt-get install postgresql"
	@command -v softhsm2-util >/dev/null || \
		echo "SoftHSM is not installed, so tests of PKCS#11 skip; for all tests: apt-get install softhsm2"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV) runs build *.egg-info
