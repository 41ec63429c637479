# The two commands:  make repro   make test
PYTHON := $(shell for p in python3.11 python3.12 python3; do if $$p -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' 2>/dev/null; then echo $$p; break; fi; done)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1

.PHONY: help repro table routers flow serve test lint clean
help:
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

# Relative paths in recipes: that of the checkout may hold blanks.
.venv/.installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed: install one, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing the pinned packages into .venv: once, about two minutes"
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# A checkout without git, such as an unpacked archive: DVC must be told.
.dvc-ready: .venv/.installed
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true

repro: .dvc-ready ## install, run the pipeline on the embedded data (CONFIG=NAME: on that of configs/NAME.yaml), print the results
ifdef CONFIG
	python -m flows.configuration $(CONFIG) $(if $(DIRTY),--dirty)
else
	python -m symbiosis params check
	dvc repro
	python -m symbiosis results
	-python -m symbiosis.registry
endif

table: .venv/.installed ## the recommender's comparison over data sets, seeds and variants (TABLE=small: that of configs/tables/small.yaml; KEEP=1: keep the page's other rows; ARGS="--help": stages side by side)
	python -m flows.table $(or $(TABLE),full) $(if $(DIRTY),--dirty) $(if $(KEEP),--keep-earlier) $(ARGS)

routers: .venv/.installed ## the router and its rivals on every routing table, on one page (TABLE=realroute12: that one anew)
	python -m flows.routers $(TABLE) $(if $(DIRTY),--dirty)

flow: .dvc-ready ## the same as a Prefect flow (ARGS="--help")
	python -m flows.pipeline $(ARGS)

serve: .dvc-ready ## Prefect server and worker, MLflow and the gateway on loopback, deployed on schedule
	python -m flows.serve

lint: .venv/.installed ## format, style, types and layering
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test: .venv/.installed ## install and run the tests
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

clean: ## remove what the pipeline made; the DVC cache stays
	git clean -fdXq data models reports
