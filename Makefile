# Two commands do everything: `make repro` and `make test`. Python 3.11+, make and git are enough.
.PHONY: repro rerun test lint review table env slow clean up down status
.DEFAULT_GOAL := repro
SHELL := /bin/bash

PYTHON ?= python3
DATASET ?= demo
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1

env: $(VENV)/.ready

# uv takes torch and torchvision as a matched pair (see CONTRIBUTING.md)
# Bytecode is compiled here: where Python may not write it, every stage would compile torch anew (10 s)
$(VENV)/.ready: pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python -e '.[dev]' -c constraints.txt
	@touch $@

repro: env
	dvc pull --quiet data.dvc
	dvc repro
	vidprompt cost $(DATASET)
	vidprompt table $(DATASET)

# everything again, whether it changed or not
rerun: env
	dvc pull --quiet data.dvc
	dvc repro --force
	vidprompt table $(DATASET)

table: env
	vidprompt table $(DATASET)

# what changed since BASE (default: where this left origin/main or main), and do the results follow from
# code and params: cache/review/review.html; fails when they do not
review: env
	vidprompt review $(REVIEW) $${BASE:+"$$BASE"}

# two files of tests at a time, a thread each, the longest first (tests/conftest.py)
test: env
	OMP_NUM_THREADS=1 pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

slow: env
	pytest -m slow

lint: env
	ruff check .
	ruff format --check .
	mypy
	vidprompt activate --check
	vidprompt check-store

# Prefect's server, work pool, limits, deployments and worker, and the reports: docs/services.md
# `make up PORT=4300 REPORTS_PORT=4301` for other ports
ifeq ($(origin PORT), command line)
up: export PREFECT_API_URL := http://127.0.0.1:$(PORT)/api
endif
up down status: env
	python -m flows.services $@

clean:
	rm -rf cache models results/*/report.html
