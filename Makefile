# Two commands for a stranger: `make demo` and `make test`. Each sets up .venv by itself: with uv when it is
# there, else with venv and pip. Only Python 3.11+ and make are needed.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)

ifdef UV
make_venv = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(1)
install   = $(UV) pip install --quiet --python $(1)/bin/python
else
make_venv = $(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
install   = $(1)/bin/python -m pip install --quiet
endif

.PHONY: help demo test check bench ray sandbox-report format clean

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.ready ## a golden set through two simulated endpoints: table, verdict, HTML report
	$(BIN)/evalkit demo --out demo-out

test: $(VENV)/.ready-dev ## the whole test suite; ARGS go to pytest
	$(BIN)/python -m pytest -n auto --ignore=tests/bench --ignore=tests/e2e/test_ray.py $(ARGS)

check: $(VENV)/.ready-dev ## lint, types, floors, documentation examples
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/evalkit datasets check
	$(BIN)/python -m pytest -q tests/docs

bench: .venv-bench/.ready ## CPU per call beside other clients (peers are installed into .venv-bench)
	.venv-bench/bin/python tests/bench/call_path.py

sandbox-report: $(VENV)/.ready-dev ## attacks on the sandbox of untrusted code, as a table
	$(BIN)/python tests/judges/sandbox_report.py

ray: $(VENV)/.ready-ray ## the tests on a Ray cluster of two nodes
	$(BIN)/python -m pytest tests/e2e/test_ray.py $(ARGS)

format: $(VENV)/.ready-dev ## rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what make made
	rm -rf .venv .venv-bench demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.ready: pyproject.toml
	@echo "setting up $(VENV) ..."
	@$(call make_venv,$(VENV))
	@$(call install,$(VENV)) -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(call install,$(VENV)) -e . --group dev
	@touch $@

$(VENV)/.ready-ray: $(VENV)/.ready-dev
	@$(call install,$(VENV)) -e '.[ray]'
	@touch $@

.venv-bench/.ready: pyproject.toml
	@$(call make_venv,.venv-bench)
	@$(call install,.venv-bench) -e '.[bench]'
	@touch $@
