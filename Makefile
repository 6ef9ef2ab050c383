# The two commands:  make demo   (install, then train, evaluate and try a model)     make test   (install, then test)
# All of them install what they need into .venv first, once; after that they work offline.

.PHONY: help demo test test-slow check mutants bench docs clean constraints
.DELETE_ON_ERROR:

help:
	@echo "make demo       install, then train, evaluate and try a small model (about 3 minutes)"
	@echo "make test       install, then run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make check      formatter, linter, types, import rules, tests, documentation"
	@echo "make mutants    put known bugs back, one by one: the tests must see each"
	@echo "make bench      measure this machine; the figures go to benchmarks/"
	@echo "make docs       run every snippet of the documentation"
	@echo "make clean      remove .venv and caches; runs/ stays"

# ---------------------------------------------------------------- set-up
# Python 3.11 or newer, whatever it is called here; `make demo PYTHON=…` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin

# Which build of PyTorch? With an NVIDIA GPU (`nvidia-smi` works) the CUDA build, without one the CPU build:
#   GPU   what the package index has, which on Linux is the CUDA build
#   CPU   the wheel in the folder that pip is configured with (find-links), of which uv has to be told;
#         without such a folder, PyTorch's own CPU index, which uv knows by name; at worst what the package index has
# Versions are those of constraints.txt. The stamp is newer than both files once everything is installed.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv \
	  || echo "uv could not be installed; pip does its work, more slowly."
	@uv=$$(command -v uv || command -v $(BIN)/uv); \
	links=$${PIP_FIND_LINKS:-$$($(BIN)/python -m pip config get global.find-links 2>/dev/null)}; \
	export UV_SYSTEM_CERTS=1 UV_HTTP_TIMEOUT=300; \
	install="$$uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e .[dev]"; \
	if [ -z "$$uv" ]; then echo "Installing with pip …"; $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'; \
	elif nvidia-smi >/dev/null 2>&1; then echo "Installing, with the CUDA build of PyTorch …"; $$install; \
	elif [ -n "$$links" ]; then echo "Installing, with the CPU build of PyTorch …"; UV_FIND_LINKS=$$(echo $$links | tr ' ' ',') $$install; \
	else echo "Installing, with the CPU build of PyTorch …"; $$install --torch-backend=cpu || $$install; fi
	@touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Telos needs Python 3.11 or newer, and none was found. If there is one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@rm -rf .venv && $(PYTHON) -m venv .venv

constraints: .venv/installed  ## newest versions of everything; torch stays where it is
	@grep '^torch==' constraints.txt > .venv/torch.txt
	@env -u UV_FIND_LINKS $$(command -v uv || echo $(BIN)/uv) pip compile --quiet --universal --all-extras --no-header --no-annotate \
	  -c .venv/torch.txt pyproject.toml -o .venv/constraints.txt
	@{ head -n 1 constraints.txt; grep -v -E '^(nvidia|cuda|triton)' .venv/constraints.txt; } > .venv/new.txt && mv .venv/new.txt constraints.txt

# ---------------------------------------------------------------- use
demo: .venv/installed
	@$(BIN)/telos demo

test: .venv/installed
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow" $(ARGS)

test-slow: .venv/installed
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test docs

docs: .venv/installed
	$(BIN)/python -m pytest -q tests/test_docs.py

mutants: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --jobs 2 $(ARGS)

bench: .venv/installed
	@$(BIN)/python benchmarks/peers/install.py || echo "The peers are not installed; their rows will say so."
	$(BIN)/python benchmarks/prepare_memory.py
	$(BIN)/python benchmarks/throughput.py $(ARGS)
	$(BIN)/python benchmarks/make_results.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
