# Every target sets up the environment that it needs by itself; nothing else is needed but Python and
# make. Another Python: `PYTHON=python3.12 make test` makes .venv anew with it.
PYTHON ?= python3
PYTHON_LOWEST ?= python3.10
# An environment's programs lie in another folder on Windows.
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
INSTALLED := .venv/installed-$(notdir $(PYTHON))
LOWEST := .venv-lowest/$(SCRIPTS)
LOWEST_INSTALLED := .venv-lowest/installed-$(notdir $(PYTHON_LOWEST))

.PHONY: demo test test-lowest smoke lint types pytest fuzz test-zoo evidence bench docs docs-version notebooks release

demo: $(INSTALLED)
	$(BIN)/mgd demo

test: lint types pytest

# The lowest version of each package that pyproject.toml names, and of the rest what fits them; tests
# marked `needs` are skipped and listed. An old package may well use what its newer neighbour calls
# deprecated: these warnings are no errors here.
test-lowest: $(LOWEST_INSTALLED)
	$(LOWEST)/python -m pytest -n auto -m "not slow" -W ignore::DeprecationWarning -rs

# Whether the package works at all on this system: what a user does first, and the tests of the parts
# where systems differ. A few minutes.
smoke: $(INSTALLED)
	$(BIN)/python -c "import mgd; print('mgd', mgd.__version__)"
	$(BIN)/mgd --help
	$(BIN)/mgd demo --seeds 1 --epochs 2 --output runs/smoke
	$(BIN)/python -m pytest -n auto -m "not slow" tests/tensors tests/data tests/models tests/test_docstrings.py tests/test_version.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

pytest: $(INSTALLED)
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

fuzz: $(INSTALLED)
	MGD_FUZZ_CASES=$${MGD_FUZZ_CASES:-2000} JAXTYPING_DISABLE=1 $(BIN)/pytest -n auto tests/fuzz --durations=0

test-zoo: $(INSTALLED)
	$(BIN)/python -W ignore tests/zoo.py > docs/zoo.md.new; \
	    status=$$?; mv docs/zoo.md.new docs/zoo.md; exit $$status  # a failure is a row of the page

# Data and weights are taken from folders where they are given, else fetched and trained.
TIER ?= small
CIFAR10 ?=
GROCERY ?=
BCCD ?=
WEIGHTS ?=
AGAIN ?=
evidence: $(INSTALLED)
	$(BIN)/python -m benchmarks.evidence --tier $(TIER) $(if $(CIFAR10),--cifar10 $(CIFAR10)) \
	    $(if $(GROCERY),--grocery $(GROCERY)) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
	    $(if $(BCCD),--bccd $(BCCD)) $(if $(AGAIN),--again)

bench: $(INSTALLED)
	for name in step adapter detector_step flags matching online loader epoch views views_kept tables; do \
	    $(BIN)/python -W ignore -m benchmarks.$$name || exit 1; done

# The page of all options, then the site, in site/: open site/index.html. Material's advertisement of
# its successor looks like a warning, and the variable turns it off.
docs: $(INSTALLED)
	$(BIN)/python docs/make_cli.py > docs/cli.md.new && mv docs/cli.md.new docs/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# For a release: commits the site to the branch gh-pages of this clone, in the folder of its version and
# as `latest`. Nothing is pushed. mike calls mkdocs by its name.
docs-version: docs
	export PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 && \
	    version=$$(python -c "import mgd; print(mgd.__version__)") && \
	    mike deploy --update-aliases "$$version" latest && mike set-default latest

# What a user gets from the package index, tried as he gets it: both files are built, the wheel is
# installed into an empty environment, and the demo runs there in an empty folder. Nothing is uploaded.
# A short demo: `make release DEMO='--seeds 1 --epochs 6'`.
RELEASE := .venv-release/$(SCRIPTS)
release: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear .venv-release
	$(RELEASE)/python -m pip install --quiet --upgrade pip
	$(RELEASE)/python -m pip install --quiet "$$(echo dist/*.whl)[demo]"
	cd "$$(mktemp -d)" && "$(CURDIR)/$(RELEASE)/mgd" --version && "$(CURDIR)/$(RELEASE)/mgd" demo $(DEMO)
	@echo "dist/ is ready; next: git tag v$$($(BIN)/python -c 'import mgd; print(mgd.__version__)')"

notebooks: $(INSTALLED)
	$(BIN)/python docs/make_notebooks.py

$(INSTALLED): pyproject.toml src/mgd/version.py
	test -e $@ || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

$(LOWEST_INSTALLED): pyproject.toml
	test -e $@ || $(PYTHON_LOWEST) -m venv --clear .venv-lowest
	$(LOWEST)/python -m pip install --quiet uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --upgrade --resolution lowest-direct -e '.[test]'
	touch $@
