# Each target installs what it needs.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
READY := .venv/.ready
# Installs a tool in a separate folder, with the version and hashes of tools/; builds use the locked packages.
TOOL := uv pip install --quiet --no-cache --link-mode copy --no-build-isolation --require-hashes

# The scripts of a virtual environment contain its path: it is recreated if the checkout was moved or copied.
MOVED := $(shell [ -f .venv/bin/fcn ] && [ ! -L .venv ] && \
    ! head -n 3 .venv/bin/fcn | grep -qF '$(CURDIR)/.venv/' && echo .venv)
ifneq ($(MOVED),)
$(shell rm -rf .venv)
endif

.PHONY: repro test check lock-check parity bench portable torture fulldisk malformed fuzz http audit ui plots screenshots serve lock readme
repro: $(READY)  ## install, train the three nets on the embedded data set, score them
	fcn check
	dvc repro

# pytest processes. Tests of servers and of killed stages wait for a third of their time: three share two cores.
TESTERS ?= 3
test: $(READY) .vega/vega.js  ## every test, with real DVC, MLflow and a browser
	python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

check: $(READY)  ## format, lint, types, fast tests
	ruff format --check .
	ruff check .
	mypy
	python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder -m "not slow" -q

lock-check: $(READY)  ## fail if dvc.lock is not of these params and this code, without the data
	fcn check --lock

parity: $(READY)  ## compare nets, gradients and training steps with torchfcn
	test -d .oracle/torchfcn || $(TOOL) --no-deps --target .oracle -r tools/torchfcn.txt
	python -m pytest --confcutdir=tests/parity tests/parity

bench: $(READY)  ## measure training steps and predictions against torchfcn, and the resize stage; use an idle machine
	test -d .oracle/torchfcn || $(TOOL) --no-deps --target .oracle -r tools/torchfcn.txt
	python -m benchmarks.step
	python -m benchmarks.resize

# Stress tests, which take minutes to days: python -m stress.NAME.
STRESS := PYTHONPATH=.:tests python -W ignore -m stress

KILLS ?= 100
SEED ?= 1
torture: $(READY)  ## SIGKILL every stage at random moments; results must be those of an uninterrupted run
	$(STRESS).torture --kills $(KILLS) --seed $(SEED)

POINTS ?= 1000
fulldisk: $(READY)  ## run every stage with a disk that is full from the n-th opened file on
	$(STRESS).fulldisk --points $(POINTS) --json benchmarks/results/fulldisk.json

FILES ?= 10000
malformed: $(READY)  ## damaged images, masks, archives, weights and indexes: rejected in one line, or read correctly
	$(STRESS).malformed --files $(FILES) --seed $(SEED)

portable: $(READY)  ## `arithmetic: portable` gives the same bits on emulated CPUs; needs the package qemu-user
	$(STRESS).portable --json benchmarks/results/portable.json

SECONDS_EACH ?= 600
fuzz: $(READY)  ## fuzz every reader with atheris, guided by coverage
	test -d .fuzz/atheris || $(TOOL) --target .fuzz -r tools/atheris.txt
	$(STRESS).fuzz --seconds $(SECONDS_EACH)

http: $(READY)  ## send damaged, slow and aborted HTTP requests to the served model
	$(STRESS).http --seconds $(SECONDS_EACH) --seed $(SEED)

audit: $(READY)  ## check the locked packages for known vulnerabilities on pypi.org
	test -d .audit/pip_audit || $(TOOL) --target .audit -r tools/pip-audit.txt
	PYTHONPATH=.audit python -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off \
	    -r requirements.lock || { echo "vulnerabilities found, or no access to pypi.org; see above" >&2; exit 1; }

ui: $(READY)  ## MLflow on http://127.0.0.1:5000
	fcn ui

plots: $(READY) .vega/vega.js  ## write DVC's plots as a page that works offline, dvc_plots/index.html
	fcn plots

screenshots: $(READY)  ## regenerate docs/mlflow-*.png from the experiments of this checkout
	PYTHONPATH=tests python tools/screenshots.py docs

serve: $(READY)  ## register FCN-8s with MLflow and serve it at http://127.0.0.1:5001; docs/serving.md
	fcn register
	fcn serve --port 5001

LOCK := uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade \
    --python-version 3.11
lock: .venv/bin/uv  ## resolve and pin every package and tool again, with hashes
	$(LOCK) --extra dev -o requirements.lock pyproject.toml
	$(LOCK) -o tools/pip-audit.txt tools/pip-audit.in
	for tool in atheris torchfcn uv vl-convert; do $(LOCK) --no-deps -o tools/$$tool.txt tools/$$tool.in || exit; done

readme: $(READY)  ## regenerate the tables of README and docs from the recorded results
	PYTHONPATH=.:tests python tools/tables.py

# Vega, Vega-Lite 5 (which DVC writes) and Vega-Embed as one script for offline use, bundled from a wheel.
.vega/vega.js: $(READY)
	$(TOOL) --target .vega/wheel -r tools/vl-convert.txt
	PYTHONPATH=.vega/wheel python -c 'import vl_convert as v; print("{" + v.javascript_bundle(vl_version="5.20") + "}")' > $@.part
	rm -r .vega/wheel
	mv $@.part $@

.venv/bin/uv: tools/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fcn needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/uv.txt
	touch $@

$(READY): requirements.lock pyproject.toml .venv/bin/uv
	uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
