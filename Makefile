# Each target first makes its own virtual environment, .venv (see tools/setup.sh).

PYTHON ?= python3
DATASET ?=
BENCH ?=

# The virtual environment's programs come first, and so does its Jupyter kernel:
# a python3 kernel that the user installed elsewhere would not know abc_lib.
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH" JUPYTER_PREFER_ENV_PATH=1

RADIUS := data/cache/runs/03_radius$(if $(DATASET),_$(DATASET))

.PHONY: help setup radius book links test test-slow lint bench clean

help:  ## list the targets
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile
	@echo "Other Python: make PYTHON=python3.12 TARGET. To start over, remove .venv."

setup: .venv/.stamp  ## make the virtual environment .venv; the other targets do it too

radius: .venv/.stamp  ## run the radius notebook as HTML; DATASET=mnist_1024 picks a training set
	@mkdir -p data/cache/runs
	$(RUN) papermill notebooks/03_radius.ipynb $(RADIUS).ipynb -k python3 $(if $(DATASET),-p dataset $(DATASET))
	$(RUN) jupyter nbconvert --log-level WARN --to html $(RADIUS).ipynb
	@echo "Read it in a browser: $(CURDIR)/$(RADIUS).html"

book: .venv/.stamp  ## build the book; a warning is an error
	-@$(RUN) python tools/lab_runtime.py
	$(RUN) jupyter-book build book/ -W -n --keep-going
	@echo "Read it in a browser: $(CURDIR)/book/_build/html/index.html"

links: .venv/.stamp  ## ask every site that the book links to whether the page is there
	$(RUN) jupyter-book build book/ --builder linkcheck

# A process a core, each on one thread; what a test computes stays in that process.
# Compiled files are kept, whatever the shell says: every process would compile anew.
PYTEST := $(RUN) OMP_NUM_THREADS=1 ABC_JOBS=1 PYTHONDONTWRITEBYTECODE= python -m pytest -n auto --dist loadfile --durations 20

test: .venv/.stamp  ## run the tests, without the slow ones
	$(PYTEST)

test-slow: .venv/.stamp  ## run only the slow tests
	$(PYTEST) -m slow --timeout 3600

lint: .venv/.stamp  ## check form, types and the order of the rooms, as pre-commit does
	$(RUN) ruff check abc_lib tests benchmarks tools notebooks book/_ext
	$(RUN) ruff format --check abc_lib tests benchmarks tools notebooks book/_ext
	$(RUN) mypy abc_lib/method
	$(RUN) lint-imports

bench: .venv/.stamp  ## measure against the straightforward ways, on a GPU if there is one; BENCH=--quick, BENCH="--only training"
	$(RUN) python benchmarks/run.py $(BENCH)

clean:  ## remove built pages, notebook runs and caches; keeps .venv, data and trained members
	rm -rf book/_build data/cache/runs .pytest_cache .hypothesis .ruff_cache build *.egg-info
	find abc_lib notebooks book tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find notebooks book -name .ipynb_checkpoints -prune -exec rm -rf {} + 2>/dev/null || true

# A virtual environment that was moved or copied with its folder does not work, so
# a stamp that names another folder counts as missing.
ifneq ($(shell cat .venv/.stamp 2>/dev/null),$(CURDIR))
.PHONY: .venv/.stamp
endif
.venv/.stamp: pyproject.toml constraints.txt
	@bash tools/setup.sh "$(PYTHON)"
