# Everything a person types. Each target sets up what it needs by itself.
SHELL := /bin/bash
PYTHON ?= python3
UV := uv==0.13.8
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
READY := .venv/.ready

.PHONY: repro test check parity bench ui plots screenshots serve lock readme
repro: $(READY)  ## from a fresh clone: everything, on the embedded data set
	fcn check
	dvc repro

test: $(READY) .vega/vega.js  ## every test, real DVC, MLflow and browser included
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
	fcn ui

plots: $(READY) .vega/vega.js  ## DVC's plots as a page that needs no network: dvc_plots/index.html
	fcn plots

screenshots: $(READY)  ## docs/mlflow-*.png anew, of this checkout's own experiments
	python tests/screenshots.py docs

serve: $(READY)  ## register FCN-8s with MLflow and answer requests at http://127.0.0.1:5001; docs/serving.md
	fcn register
	fcn serve --port 5001

lock: .venv/bin/uv  ## pin every package again, with hashes and without a host's name
	uv pip compile --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade \
	    --python-version 3.11 --extra dev -o requirements.lock pyproject.toml

readme: $(READY)  ## README's tables from recipes/*.results.json
	fcn readme

# Vega, Vega-Lite 5 (which DVC writes) and Vega-Embed as one script: a wheel carries them for use without a network.
.vega/vega.js: $(READY)
	uv pip install --quiet --no-deps --no-cache --link-mode copy --target .vega/wheel vl-convert-python==1.9.0.post1
	PYTHONPATH=.vega/wheel python -c 'import vl_convert as v; print("{" + v.javascript_bundle(vl_version="5.20") + "}")' > $@.part
	rm -r .vega/wheel
	mv $@.part $@

.venv/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fcn needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)

$(READY): requirements.lock pyproject.toml .venv/bin/uv
	uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
