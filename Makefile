# Each target does all its own set-up, in .venv; PYTHON chooses the interpreter it is made with.
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# How many sessions "make bench-scale" puts into its largest table.
N ?= 1000000

# How many requests of each kind "make bench" measures.
REQUESTS ?= 1000

# How many times as often as usual "make reliability" tries everything.
SCALE ?= 10

# "make test SHARE=N" tries one in N cases of each test in each dialect of SQL, other ones in each run; only
# all of them cover every branch.
SHARE ?= 1
COVERAGE := --cov --cov-report=term-missing --cov-fail-under=100

# How long "make soak" lasts.
SECONDS ?= 600

.PHONY: demo test test-cluster test-browser screenshots soak reliability lint format docs bench bench-scale \
	release-check clean servers

demo: $(VENV)/demo.stamp
	@echo "the demo is at http://127.0.0.1:6543/ (Ctrl-C ends it)"
	PYTHONPATH=docs/demo $(BIN)/pserve docs/demo/development.ini

test: lint servers
	$(BIN)/python -m pytest --numprocesses=auto $(if $(filter 1,$(SHARE)),$(COVERAGE),--share=$(SHARE))

test-cluster: servers
	$(BIN)/python -m pytest tests/cluster

test-browser: servers
	$(BIN)/python -m pytest tests/browser

# The pictures in docs/demo.rst.
screenshots: servers
	$(BIN)/python -m pytest tests/browser/test_pictures.py --screenshots=docs/pictures

soak: servers
	$(BIN)/python -m pytest tests/soak --seconds=$(SECONDS)

# What docs/project/trials.rst says was tried.
reliability: servers
	rm -f $(VENV)/trials.jsonl
	$(BIN)/python -m pytest --numprocesses=auto --scale=$(SCALE) --timeout=0 \
		--record=$(VENV)/trials.jsonl \
		tests/histories/test_state_machine.py tests/histories/test_interleavings.py tests/faults
	$(BIN)/python -m pytest --scale=$(SCALE) --timeout=0 --record=$(VENV)/trials.jsonl tests/cluster
	$(BIN)/python -m pytest --seconds=$(SECONDS) --record=$(VENV)/trials.jsonl tests/soak
	PYTHONPATH=tests $(BIN)/python -m support.trials $(VENV)/trials.jsonl docs/reliability/trials.rst

lint: $(VENV)/testing.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/testing.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/docs.stamp
	$(BIN)/sphinx-build -n -W --keep-going -b html docs docs/_build/html

bench: servers
	PYTHONPATH=tests $(BIN)/python -m benchmarks.peers --requests $(REQUESTS)

bench-scale: servers
	PYTHONPATH=tests $(BIN)/python -m benchmarks.scale --sessions $(N)

# RELEASING.rst says what it looks for.
release-check: $(VENV)/testing.stamp
	rm -rf dist
	PYTHONPATH=tests $(BIN)/python -m support.release
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) .tox .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf build dist docs/_build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/stamp:
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)"; \
		exit 1; }
	@touch $@

$(VENV)/%.stamp: pyproject.toml | $(VENV)/stamp
	@echo "installing what $* needs into $(VENV) ..."
	@$(PIP) --editable '.[$*]'
	@touch $@

# The drivers that are built from source; their tests are skipped, or fail, as the servers' are.
servers: $(VENV)/testing.stamp
	@tests/support/install_servers.sh
	@tests/support/unpack_servers.sh
	@for driver in mariadb mysqlclient; do \
		$(BIN)/python -m pip show $$driver >/dev/null 2>&1 || \
		$(PIP) $$driver >$(VENV)/$$driver.log 2>&1 || \
		echo "$$driver cannot be built ($(VENV)/$$driver.log): tests that need it will not run"; \
	done
