# `make demo` and `make test` set up .venv by themselves; nothing else is needed but python3 and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types pytest fuzz test-zoo evidence bench docs

demo: .venv/installed
	$(BIN)/mgd demo

test: lint types pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

pytest: .venv/installed
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

fuzz: .venv/installed
	MGD_FUZZ_CASES=$${MGD_FUZZ_CASES:-2000} JAXTYPING_DISABLE=1 $(BIN)/pytest -n auto tests/fuzz --durations=0

test-zoo: .venv/installed
	$(BIN)/python -W ignore tests/zoo.py > docs/zoo.md.new; \
	    status=$$?; mv docs/zoo.md.new docs/zoo.md; exit $$status  # a failure is a row of the page

# Data and weights are taken from folders where they are given, else fetched and trained.
TIER ?= small
CIFAR10 ?=
GROCERY ?=
WEIGHTS ?=
AGAIN ?=
evidence: .venv/installed
	$(BIN)/python -m benchmarks.evidence --tier $(TIER) $(if $(CIFAR10),--cifar10 $(CIFAR10)) \
	    $(if $(GROCERY),--grocery $(GROCERY)) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
	    $(if $(AGAIN),--again)

bench: .venv/installed
	for name in step flags matching online loader epoch tables; do \
	    $(BIN)/python -W ignore -m benchmarks.$$name || exit 1; done

docs: .venv/installed
	$(BIN)/python docs/make_cli.py > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@
