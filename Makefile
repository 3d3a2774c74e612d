# `make repro` does everything. Python 3.11+, make and git are enough.
.PHONY: repro rerun review table env clean up down status
.DEFAULT_GOAL := repro
SHELL := /bin/bash

PYTHON ?= python3
# the active datasets
DATASET ?= $(shell sed -n 's/^active: *\[\(.*\)\].*/\1/p' params/pipeline.yaml | tr ',' ' ')
VENV := .venv
INSTALL := -r pyproject.toml
REQUIREMENTS := pyproject.toml
-include development.mk
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1

# of data that are tracked, the demo's
PULL := $(if $(wildcard data.dvc),dvc pull --quiet data.dvc)

env: $(VENV)/.ready

# uv takes torch and torchvision as a matched pair, which pip does not where a CPU wheel of torch lies on disk
# Bytecode is compiled here: where Python may not write it, every stage would compile torch anew (10 s)
$(VENV)/.ready: $(REQUIREMENTS)
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python $(INSTALL)
	@test -d src/vidprompt || $(VENV)/bin/vidprompt activate > /dev/null
	@touch $@

repro: env
	$(PULL)
	dvc repro
	@set -e; for dataset in $(DATASET); do vidprompt cost $$dataset; vidprompt table $$dataset; done

# everything again, whether it changed or not
rerun: env
	$(PULL)
	dvc repro --force
	@set -e; for dataset in $(DATASET); do vidprompt table $$dataset; done

table: env
	@set -e; for dataset in $(DATASET); do vidprompt table $$dataset; done

# what changed since BASE (default: where this left origin/main or main), and do the results follow from
# code and params: cache/review/review.html; fails when they do not
review: env
	vidprompt review $(REVIEW) $${BASE:+"$$BASE"}

# Prefect's server, work pool, limits, deployments and worker, and the reports: docs/services.md
# `make up PORT=4300 REPORTS_PORT=4301` for other ports
ifeq ($(origin PORT), command line)
up: export PREFECT_API_URL := http://127.0.0.1:$(PORT)/api
endif
up down status: env
	python -m flows.services $@

clean:
	rm -rf cache models results/*/report.html
