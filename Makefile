# Two commands for a bare machine with Python, pip and make:
#   make demo    installs into .venv and runs the whole laboratory on an embedded data set
#   make test    installs into .venv and runs the tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test quick ahead faults numbers results report-gpu lint notebooks docs clean

demo: $(VENV)/installed
	$(BIN)/python -m flaxlab.main --config=experiments/quickstart.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

# What depends most on the versions of Python and JAX; .ci/run runs it on a second Python.
quick: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal \
	  tests/test_canary.py tests/kernels tests/checkpoints/test_checkpoints.py \
	  tests/run/test_fingerprint.py tests/training/test_steps.py \
	  tests/training/test_keras_optimizers.py

# Compiles the experiments for a GPU that is not here. XLA's part for GPUs is kept apart: in the
# environment itself, JAX would look for a GPU at each start.
ahead: .ahead/installed
	AHEAD=1 PYTHONPATH=.ahead $(BIN)/python -m pytest tests/test_gpu_ahead.py

.ahead/installed: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .ahead \
	  "jax-cuda12-pjrt==$$($(BIN)/python -c 'import jaxlib; print(jaxlib.__version__)')"
	touch $@

# Everything in tests/faults with more kills, configs and damaged files than `make test` has.
faults: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/faults --kills=60 --cases=100 --durations=0

# Loss and gradients of the lab report's networks beside float64: a quarter of an hour on two cores.
numbers: $(VENV)/installed
	$(BIN)/python -m benchmarks.step_error

# The tables and the picture of README and docs/results.md, and a comparison of each suite that has runs in results/.
results: $(VENV)/installed
	$(BIN)/python docs/update_results.py
	$(BIN)/python docs/draw_results.py
	for suite in $$(cd results && ls */*/*/summary.json 2> /dev/null | cut -d/ -f1 | uniq); do \
	  $(BIN)/python -m flaxlab.ledger results/$$suite --check && \
	  $(BIN)/python -m flaxlab.compare results/$$suite --to=build/results/$$suite || exit; \
	done

# On a machine with a GPU and the data sets: the lab report's thirteen networks with five seeds each.
# What is there is not done again, so that it goes on where it was stopped. The runs in results/ are of
# CIFAR-10 in JPEG; for the original pictures give another folder: make report-gpu REPORT=runs/report
REPORT ?= results
report-gpu: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[slurm]' --requirement requirements-cuda.txt
	for suite in vgg_cifar vgg_vs_alexnet alexnet_fashion; do \
	  only= && if [ $$suite = vgg_vs_alexnet ]; then only=--arms=vgg_fashion; fi && \
	  $(BIN)/python -m flaxlab.suite --config=experiments/suites/$$suite.py --seeds=5 $$only \
	    --workdir=$(REPORT)/$$suite --launcher=processes --tasks_per_gpu=4 && \
	  $(BIN)/python -m flaxlab.ledger $(REPORT)/$$suite || exit; \
	done

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The chapters of the tutorial and their solutions, as notebooks beside them.
notebooks: $(patsubst %.py,%.ipynb,$(wildcard docs/tutorial/*.py docs/tutorial/solutions/*.py))

docs/tutorial/%.ipynb: docs/tutorial/%.py $(VENV)/installed-dev
	$(BIN)/jupytext --quiet --to ipynb --output $@ $<

# Chapters are run by kernels on sockets of files, since Jupyter warns of open ports; and Material
# warns of a MkDocs 2 that the "docs" extra does not let in.
docs: $(VENV)/installed-docs
	JUPYTER_CONFIG_DIR=docs/jupyter NO_MKDOCS_2_WARNING=1 \
	  $(BIN)/mkdocs build --strict --quiet

$(VENV)/bin/python:
	# Debian's Python has no venv of its own before python3-venv is installed: pip brings one.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV) && \
	  $(PYTHON) -m pip install --quiet --target .virtualenv virtualenv && \
	  PYTHONPATH=.virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-newest .virtualenv .ahead build site *.egg-info
