# Two commands for a bare machine with Python, pip and make:
#   make demo    installs into .venv and runs the whole laboratory on an embedded data set
#   make test    installs into .venv and runs the tests

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test faults results lint notebooks docs clean

demo: .venv/installed
	$(BIN)/python -m flaxlab.main --config=experiments/quickstart.py

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

# Everything in tests/faults with more kills, configs and damaged files than `make test` has.
faults: .venv/installed-dev
	$(BIN)/python -m pytest tests/faults --kills=60 --cases=100 --durations=0

# The tables of README and docs/results.md, and a comparison of each suite that has runs in results/.
results: .venv/installed
	$(BIN)/python docs/update_results.py
	for suite in $$(ls results 2> /dev/null); do \
	  $(BIN)/python -m flaxlab.compare results/$$suite --to=build/results/$$suite || exit; \
	done

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The chapters of the tutorial and their solutions, as notebooks beside them.
notebooks: $(patsubst %.py,%.ipynb,$(wildcard docs/tutorial/*.py docs/tutorial/solutions/*.py))

docs/tutorial/%.ipynb: docs/tutorial/%.py .venv/installed-dev
	$(BIN)/jupytext --quiet --to ipynb --output $@ $<

# Chapters are run by kernels on sockets of files, since Jupyter warns of open ports; and Material
# warns of a MkDocs 2 that the "docs" extra does not let in.
docs: .venv/installed-docs
	JUPYTER_CONFIG_DIR=docs/jupyter NO_MKDOCS_2_WARNING=1 \
	  $(BIN)/mkdocs build --strict --quiet

.venv/bin/python:
	# Debian's Python has no venv of its own before python3-venv is installed: pip brings one.
	$(PYTHON) -m venv .venv || { rm -rf .venv && \
	  $(PYTHON) -m pip install --quiet --target .virtualenv virtualenv && \
	  PYTHONPATH=.virtualenv $(PYTHON) -m virtualenv --quiet .venv; }

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

.venv/installed-docs: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .virtualenv build site *.egg-info
