# make demo · make test · make lint · make docs and others below: each sets up what it needs in .venv.
# What the demo says: make demo TRANSCRIPT="maria finds seven blue pencils" VOICE="A lively American female voice."
# Other flags of the demo, such as --words, which lists the words that it knows: make demo ARGS=--words
# Another interpreter: make demo PYTHON=python3.12. Test processes at a time: make test WORKERS=8.
# Tests run in random order; the first line says its seed, and make test SEED=1 repeats it.
PYTHON ?= python3
WORKERS ?= 3

VENV := .venv
RUN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)/python -m

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-docs test-site lint docs docs-serve clean

help:
	@echo "make demo    write a talking clip to outputs/demo.mp4; say what: make demo TRANSCRIPT='anna sees three red flowers'"
	@echo "                which words it knows: make demo ARGS=--words"
	@echo "make test    lint, then run all tests in random order; repeat one: make test SEED=1"
	@echo "make test-long  run whole scripts, with next to no training, and a Ray cluster that loses machines: minutes"
	@echo "make test-docs  run every code block of the tutorials and guides: minutes"
	@echo "make lint    check style, format and types"
	@echo "make docs    build the site in site/; look at it while you write: make docs-serve"
	@echo "make test-site  build the site and try every page, and the app, in chromium"
	@echo "make setup   make .venv with everything above but the docs"
	@echo "make clean   remove .venv, site, build output and caches; outputs/ stays"

setup: $(VENV)/.setup

# The stamp is written last: an interrupted set-up is taken up again, a finished one is left alone.
$(VENV)/.setup: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "This needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	    echo "Name another one: make setup PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV): about 2 GB, a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet -c constraints.txt -e '.[dev,data,train,faces,eval]'
	$(RUN) pip check
	@touch $@

$(VENV)/.setup-docs: $(VENV)/.setup
	$(RUN) pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

demo: setup
	$(RUN) diffusers_jova demo $(if $(TRANSCRIPT),--transcript "$(TRANSCRIPT)") $(if $(VOICE),--audio_prompt "$(VOICE)") $(ARGS)

# One thread per process: the models in the tests are tiny, and WORKERS processes share the cores.
test: lint
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(RUN) pytest -q -n $(WORKERS) --dist worksteal $(if $(SEED),--randomly-seed=$(SEED))

# Minutes: how the small models are trained, from an empty folder to a report; what is measured on a card, in small;
# a data set on a Ray cluster of two nodes, which are lost.
test-long: setup
	$(RUN) pip install --quiet -c constraints.txt -e '.[ray]'
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(RUN) pytest -q -n 2 -m long

# Minutes: every code block of the tutorials and guides, on small real models.
test-docs: setup
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(RUN) pytest -q -m pages tests/test_pages_run.py

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

docs: $(VENV)/.setup-docs
	$(firstword $(RUN)) tools/reference_pages.py
	$(RUN) zensical build --clean --strict

docs-serve: $(VENV)/.setup-docs
	$(firstword $(RUN)) tools/reference_pages.py
	$(RUN) zensical serve

# Needs Debian's chromium: every page, in both widths and colour schemes; and the app.
test-site: docs
	$(RUN) pip install --quiet -c constraints.txt -e '.[site,app]'
	$(RUN) pytest -q -m site tests/browser

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
