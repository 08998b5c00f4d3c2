# The course's commands. `make book` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.bncourse-ready
SITE := _build/html
NOTEBOOKS := $(wildcard book/*.ipynb solutions/*.ipynb)
WORKERS ?= auto

# Everything runs the package of this folder, also in an environment shared with another.
export PYTHONPATH := $(CURDIR)

.PHONY: help setup book test test-package test-notebooks test-site lint format lab serve exercises outputs scores claims bench bench-gpu lock clean
help:
	@echo "make book    run every notebook and build the site"
	@echo "make test    run every test: code, notebooks, site"
	@echo "make lab     open JupyterLab on the exercises"
	@echo "make serve   serve the built site and open it"
	@echo "make exercises  make the exercise notebooks from the solutions"
	@echo "make scores  score the checks of the exercises, and record what learners are told"
	@echo "make outputs run the notebooks and save the outputs that the tests compare"
	@echo "make claims  run the experiments of the claims lab anew, and record them; goes on after an interruption"
	@echo "make bench   compare the speed of the implementations;  make bench-gpu  on a GPU, goes on after an interruption"
	@echo "make lint    check style and spelling;  make format  mend what can be mended"
	@echo "make lock    bring requirements.lock in step with pyproject.toml"
	@echo "make clean   remove everything that was built, .venv included"

setup: $(READY)
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@$(BIN)/jupyter labextension disable --level=sys_prefix @jupyter/nbgrader 2>/dev/null # only its preprocessors are used
	@touch $@

# Sphinx keeps pages that left the table of contents, and does not see changes of its extensions.
SITE_SETTINGS := _config.yml _toc.yml $(wildcard book/_ext/*.py book/_ext/*.js book/_templates/*)
_build/.settings: $(SITE_SETTINGS)
	rm -rf $(SITE) _build/.doctrees
	@mkdir -p _build && touch $@

book: $(READY) _build/.settings
	$(BIN)/python book/_ext/execution.py || { rm -rf $(SITE); exit 1; } # no older site passes for a new one
	$(BIN)/jupyter-book build . -W --keep-going -q
	@echo "The book is at file://$(CURDIR)/$(SITE)/index.html (or: make serve)"

test: lint test-package test-notebooks test-site

test-package: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --ignore tests/test_site.py

# Each notebook stays on one worker: its cells share a kernel.
test-notebooks: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --nbval-lax $(NOTEBOOKS)

# Without a browser pytest skips this file, says so, and exits with 5, "no tests".
test-site: book
	$(BIN)/python -m pytest -rs -n $(WORKERS) tests/test_site.py || [ $$? -eq 5 ]

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/exercises \
	  $(foreach part,formgrader validate_assignment assignment_list course_list,\
	    --ServerApp.jpserver_extensions=nbgrader.server_extensions.$(part)=False)

serve: $(READY)
	$(BIN)/python book/_ext/serve.py $(SITE)

exercises: $(READY)
	$(BIN)/python book/_ext/exercise_notebooks.py

# What the instructor's page shows of the checks; tests compare.
scores: $(READY)
	PYTHONPATH=$(CURDIR):tests $(BIN)/python tests/scores.py
	PYTHONPATH=$(CURDIR):tests $(BIN)/python tests/wrong_attempts.py

# Run the notebooks and save the outputs that nbval compares; all other outputs are dropped.
outputs: $(READY)
	$(BIN)/python book/_ext/saved_outputs.py $(NOTEBOOKS)

# Into book/results/claims.json, which the chapters draw. One claim: python -m bncourse.claims ID
claims: $(READY)
	$(BIN)/python -m bncourse.claims

bench: $(READY)
	$(BIN)/python -m bncourse.benchmark --device cpu
	$(BIN)/python -m bncourse.benchmark.costs
	$(BIN)/python -m bncourse.benchmark.cpu

# Into book/results/<device>.json, group by group: call it again after an interruption.
bench-gpu: $(READY)
	$(BIN)/python -m bncourse.benchmark.gpu

lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml -o requirements.lock

clean:
	rm -rf _build .venv .pytest_cache .ruff_cache .hypothesis
