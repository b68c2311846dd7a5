# Every target makes or updates the shared environment first; `make` alone lists them.
VENV := $(or $(KD_VENV),.venv)
BIN := $(VENV)/bin
PYTHON := $(BIN)/python

# One thread per process: results are the same bits on every machine that has the cores, and two test workers do not
# fight over them.
PINNED := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
WORKERS ?= 2
# Files in their own order: by the number of tests, as they would come, the last are a few long tests, and a worker idles.
PYTEST := $(PINNED) $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help environment demo test test-all lint style types rooms bench docs docs-check repro repro-quick repro-full repro-emoji clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

environment:  ## make or update the environment (KD_VENV, by default .venv)
	@bash scripts/environment.sh

demo: environment  ## every stage on real data; the last line says where the report is
	@$(BIN)/kd run configs/best.yaml

test: environment  ## the tests a developer waits for
	@$(PYTEST) -m "not slow"

test-all: environment  ## every test
	@$(PYTEST)

lint: style types rooms docs-check  ## style, types, import direction, and documents that agree with the records

style: environment  ## ruff: rules and format
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

types: environment  ## mypy on the package
	@$(PYTHON) -m mypy

rooms: environment  ## imports point down the list of rooms only
	@$(BIN)/lint-imports --config setup.cfg

bench: environment  ## time what scripts/bench_*.py measure (BENCH=--quick: under a minute each, writes nothing)
	@set -e; found=0; \
	for script in scripts/bench_*.py; do \
	    if [ -e "$$script" ]; then found=1; echo "$$script"; $(PINNED) $(PYTHON) "$$script" $(BENCH); fi; \
	done; \
	if [ $$found = 0 ]; then echo "no scripts/bench_*.py to run" >&2; fi

docs: environment  ## write the tables of README.md, docs/ and paper_repro.md from registries and records
	@$(PYTHON) scripts/make_docs.py

docs-check: environment  ## fail where a document differs from its records
	@$(PYTHON) scripts/make_docs.py --check

repro: environment  ## records, pictures and numbers of paper_repro.md again, from an empty store
	@$(PINNED) $(PYTHON) scripts/reproduce.py $(REPRO)

repro-quick: environment  ## documents against records, and two recorded cells, chosen by the commit, trained again
	@$(PINNED) $(PYTHON) scripts/reproduce.py --quick

repro-full: environment  ## the sweeps that have no limit of time (REPRO=--resume goes on with one that was stopped)
	@$(PINNED) $(PYTHON) scripts/reproduce.py --full $(REPRO)

repro-emoji: environment  ## pictures and words: KDD 2020 in five seeds, the best student and its rivals
	@$(PINNED) $(PYTHON) scripts/reproduce.py --emoji $(REPRO)

clean:  ## remove the tools' caches; the environment and the runs stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
