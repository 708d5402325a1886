# Everything runs in .venv, which is made on first use.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/set-up
PYTEST_FLAGS ?= -n logical --dist loadfile
SOURCES := tvm_bnn schedules relay_passes examples tests

.PHONY: test lint types unit clean

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)

# The package is checked as installed, because three top-level folders become sub-packages.
types: $(STAMP)
	rm -rf build .typecheck
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target .typecheck .
	rm -rf build
	MYPYPATH=.typecheck $(BIN)/mypy .typecheck/tvm_bnn tests

unit: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,tune]"
	touch $@

clean:
	rm -rf .venv .typecheck .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
