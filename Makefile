# Everything here sets itself up: it needs Python (3.10 or later) and make, no more.

PYTHON ?= python3
VENV ?= .venv
# Requirements to install on top, such as TRIO=trio==0.27.0
TRIO ?= trio
# On each core
PARALLEL = -n auto --dist worksteal
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
# Not each newest release can be built here, such as for a CPython without the GIL
export PIP_PREFER_BINARY = 1

.PHONY: help demo test check coverage mutants docs bench stress soak clean

help:  ## list what there is
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

demo: $(VENV)/demo.stamp  ## run an echo server, and check its timers
	$(BIN)/python -m trio_clockrt $(ARGS)

test: $(VENV)/test.stamp  ## run the tests
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: $(VENV)/check.stamp  ## everything else that has to hold
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" pyright
	PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes trio_clockrt
	$(BIN)/python benchmarks/bench.py --smoke
	$(MAKE) docs coverage
	tools/without_the_gil.sh

coverage: $(VENV)/test.stamp  ## run the tests, models for a shorter time, and demand that they reach every branch
	$(BIN)/coverage erase
	SOAK_STEPS=1100 $(BIN)/coverage run -m pytest -q $(PARALLEL)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

mutants: $(VENV)/mutants.stamp  ## break the library everywhere, and see what no test notices
	$(BIN)/python tools/mutants.py $(ARGS)

docs: $(VENV)/docs.stamp  ## build the documentation into docs/_build
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build
	@echo "Now open docs/_build/index.html"

bench: $(VENV)/bench.stamp  ## what things cost, beside what they replace
	$(BIN)/python benchmarks/bench.py $(ARGS)

stress: $(VENV)/test.stamp  ## use a shared clock from eight threads, at random
	STRESS_OPERATIONS=350000 $(BIN)/python -m pytest -v -o faulthandler_timeout=0 \
		--durations=0 tests/test_shared_stress.py $(ARGS)

soak: $(VENV)/test.stamp  ## run the tests that can run for longer, for 45 minutes
	SOAK_STEPS=1000000 SOAK_TIMERS=10000000 SOAK_DAYS=7 SOAK_RUNS=20 SOAK_JUMPS=1000 SOAK_EXAMPLES=10000 \
		$(BIN)/python -m pytest -v -o faulthandler_timeout=0 --durations=0 \
		tests/test_*_model.py tests/test_queue.py \
		tests/test_leaving_nothing_behind.py tests/test_simulated_week.py \
		tests/test_false_jumps.py tests/test_shared_interleavings.py \
		tests/test_progress.py tests/test_wall.py tests/test_moves_that_end.py $(ARGS)

clean:
	rm -rf .venv docs/_build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/venv.stamp:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	touch $@

$(VENV)/demo.stamp: $(VENV)/venv.stamp pyproject.toml
	$(PIP) install --editable '.[demo]' '$(TRIO)'
	touch $@

$(VENV)/bench.stamp: $(VENV)/demo.stamp
	$(PIP) install --group bench '$(TRIO)'
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(PIP) install --group test '$(TRIO)'
	touch $@

$(VENV)/mutants.stamp: $(VENV)/test.stamp
	$(PIP) install --group mutants '$(TRIO)'
	touch $@

$(VENV)/docs.stamp: $(VENV)/demo.stamp
	$(PIP) install --group docs '$(TRIO)'
	touch $@

$(VENV)/check.stamp: $(VENV)/test.stamp $(VENV)/docs.stamp $(VENV)/bench.stamp
	$(PIP) install --group check '$(TRIO)'
	touch $@
