# Everything a person types. Each target sets up what it needs by itself.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
READY := .venv/.ready
# A tool in a folder of its own, its version and hashes in tools/; one that is built is built with what the lock has.
TOOL := uv pip install --quiet --no-cache --link-mode copy --no-build-isolation --require-hashes

# A virtual environment names its folder in its scripts: in a moved or copied checkout it is made anew.
MOVED := $(shell [ -f .venv/bin/fcn ] && [ ! -L .venv ] && \
    ! head -n 3 .venv/bin/fcn | grep -qF '$(CURDIR)/.venv/' && echo .venv)
ifneq ($(MOVED),)
$(shell rm -rf .venv)
endif

.PHONY: repro test check parity bench torture fulldisk malformed fuzz http audit ui plots screenshots serve lock readme
repro: $(READY)  ## from a fresh clone: everything, on the embedded data set
	fcn check
	dvc repro

# Most tests run on one core: so many processes of pytest share the files among them.
TESTERS ?= 2
test: $(READY) .vega/vega.js  ## every test, real DVC, MLflow and browser included
	python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

check: $(READY)  ## format, lint, types, fast tests
	ruff format --check .
	ruff check .
	mypy
	python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder -m "not slow" -q

parity: $(READY)  ## nets and their training beside torchfcn's, which lives in a folder of its own
	test -d .oracle/torchfcn || $(TOOL) --no-deps --target .oracle -r tools/torchfcn.txt
	python -m pytest --confcutdir=tests/parity tests/parity

bench: $(READY)  ## FCN-8s' steps and predictions beside torchfcn's, and the input path; quiet machines tell more
	test -d .oracle/torchfcn || $(TOOL) --no-deps --target .oracle -r tools/torchfcn.txt
	python -m benchmarks.step
	python -m benchmarks.resize

# What takes minutes to days and no test waits for: python -m stress.NAME.
STRESS := PYTHONPATH=.:tests python -W ignore -m stress

KILLS ?= 100
SEED ?= 1
torture: $(READY)  ## SIGKILL at random moments over every stage, and the same bits in the end
	$(STRESS).torture --kills $(KILLS) --seed $(SEED)

POINTS ?= 1000
fulldisk: $(READY)  ## every stage of the checkout, with a disk that is full from each of its files on
	$(STRESS).fulldisk --points $(POINTS) --json benchmarks/results/fulldisk.json

FILES ?= 10000
malformed: $(READY)  ## damaged images, masks, archives, weights, indexes: refused in a line, or read
	$(STRESS).malformed --files $(FILES) --seed $(SEED)

SECONDS_EACH ?= 600
fuzz: $(READY)  ## coverage-guided fuzzing of every reader with atheris, which lives in a folder of its own
	test -d .fuzz/atheris || $(TOOL) --target .fuzz -r tools/atheris.txt
	$(STRESS).fuzz --seconds $(SECONDS_EACH)

http: $(READY)  ## damaged, slow and abandoned HTTP requests at the served model
	$(STRESS).http --seconds $(SECONDS_EACH) --seed $(SEED)

audit: $(READY)  ## the lock against the known holes; asks pypi.org
	test -d .audit/pip_audit || $(TOOL) --target .audit -r tools/pip-audit.txt
	PYTHONPATH=.audit python -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off \
	    -r requirements.lock || { echo "not audited or not clean, see above; offline, nothing can be said" >&2; exit 1; }

ui: $(READY)  ## MLflow on http://127.0.0.1:5000, to compare the runs
	fcn ui

plots: $(READY) .vega/vega.js  ## DVC's plots as a page that needs no network: dvc_plots/index.html
	fcn plots

screenshots: $(READY)  ## docs/mlflow-*.png anew, of this checkout's own experiments
	PYTHONPATH=tests python tools/screenshots.py docs

serve: $(READY)  ## register FCN-8s with MLflow and answer requests at http://127.0.0.1:5001; docs/serving.md
	fcn register
	fcn serve --port 5001

LOCK := uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade \
    --python-version 3.11
lock: .venv/bin/uv  ## pin every package and tool again, with hashes and without a host's name
	$(LOCK) --extra dev -o requirements.lock pyproject.toml
	$(LOCK) -o tools/pip-audit.txt tools/pip-audit.in
	for tool in atheris torchfcn uv vl-convert; do $(LOCK) --no-deps -o tools/$$tool.txt tools/$$tool.in || exit; done

readme: $(READY)  ## the tables of README and docs, from what was recorded
	PYTHONPATH=.:tests python tools/tables.py

# Vega, Vega-Lite 5 (which DVC writes) and Vega-Embed as one script: a wheel carries them for use without a network.
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
