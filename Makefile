# Everything runs in .venv, which is made on first use.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/set-up
DEMO_STAMP := .venv/set-up-demo
DEMO_OUTPUT ?= demo_output
REPORT_STAMP := .venv/set-up-report
REPORT_OUTPUT ?= report_output
# A file is the work of one process; tests/conftest.py puts those that take longest first.
PYTEST_FLAGS ?= -n logical --dist loadfile --no-loadscope-reorder --durations=25
SOURCES := tvm_bnn schedules relay_passes examples tuning_logs tests

.PHONY: demo report test lint types unit clean

test: lint types unit

# The trained example network, compiled for this machine, on test scenes that it never saw.
demo: $(DEMO_STAMP)
	$(BIN)/python -m tvm_bnn.examples.ding2024.show -o $(DEMO_OUTPUT)

# The three tasks' networks on this machine, beside everything else that runs them: accuracy, latency, one page.
report: $(REPORT_STAMP)
	$(BIN)/python -m tvm_bnn.report compare examples/report.toml -o $(REPORT_OUTPUT)
	@echo "look at $(REPORT_OUTPUT)/report.html"

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)

# The package is checked as installed, because four top-level folders become sub-packages.
types: $(STAMP)
	rm -rf build .typecheck
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target .typecheck .
	rm -rf build
	MYPYPATH=.typecheck $(BIN)/mypy .typecheck/tvm_bnn tests

unit: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# The demonstration needs the package alone; checks and tests need their tools as well.
$(STAMP): EXTRAS := [test,tune,cuda]
$(REPORT_STAMP): EXTRAS := [report,peers,tune]
$(STAMP) $(DEMO_STAMP) $(REPORT_STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/pip install --quiet -c constraints.txt -e ".$(EXTRAS)"
	test -z "$(EXTRAS)" || $(BIN)/pip install --quiet -c constraints.txt --no-deps pysodmetrics
	touch $@

clean:
	rm -rf demo_output report_output .venv .typecheck .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
