# Everything a person types. Each target sets up what it needs by itself.
SHELL := /bin/bash
PYTHON ?= python3
UV := uv==0.13.8
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
READY := .venv/.ready

.PHONY: repro test check parity ui lock readme
repro: $(READY)  ## from a fresh clone: everything, on the embedded data set
	fcn check
	dvc repro

test: $(READY)  ## every test, real DVC and MLflow included
	python -m pytest

check: $(READY)  ## format, lint, types, fast tests
	ruff format --check .
	ruff check .
	mypy
	python -m pytest -m "not slow" -q

parity: $(READY)  ## nets and their training beside torchfcn's, which lives in a folder of its own
	test -d .oracle/torchfcn || uv pip install --quiet --no-deps --no-cache --link-mode copy \
	    --target .oracle torchfcn==1.9.7
	python -m pytest --confcutdir=tests/parity tests/parity

ui: $(READY)  ## MLflow on http://127.0.0.1:5000, to compare the runs
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
	    --backend-store-uri sqlite:///$(CURDIR)/mlflow.db --default-artifact-root $(CURDIR)/mlartifacts

lock: .venv/bin/uv  ## pin every package again, with hashes and without a host's name
	uv pip compile --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade \
	    --python-version 3.11 --extra dev -o requirements.lock pyproject.toml

readme: $(READY)  ## README's tables from recipes/*.results.json
	fcn readme

.venv/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fcn needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)

$(READY): requirements.lock pyproject.toml .venv/bin/uv
	uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
