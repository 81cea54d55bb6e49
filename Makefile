# Everything runs in .venv, which the first target that needs it makes. PYTHON is the interpreter it is made from.
PYTHON ?= python3
# How many processes pytest-xdist starts.
WORKERS ?= auto

VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-newest test-rest test-all test-sizes test-peers lint bench gallery notebooks clean

help: ## what you are reading
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## train on real data with each kind of loss; figures on the screen, pictures in out/
	$(BIN)/python examples/demo.py

# Most of the time of the tests is XLA's, which compiles some thousand small programs. In haste it takes less than half of
# it (see tests/conftest.py): what is to be compiled as users compile runs apart, and all of the rest but the test matrix,
# the second derivatives and the meshes. Pytest's marks say which test belongs where: see pyproject.toml.
HASTE := JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST) --durations 10
FULL := $(PYTEST) --durations 10
HASTY := $(patsubst %,tests/test_%.py,contract ties language_sharding composition float8 inputs layouts debug_checks)
test: $(VENV)/.test ## run the tests and the doctests: every promise on every loss, all but tests/peers
	$(HASTE) -m 'not exhaustive and not optimized'
	$(FULL) -m 'not exhaustive and optimized'

test-rest: $(VENV)/.test ## the rest: other options and dtypes, sweeps of sizes, long trainings
	$(FULL) -m exhaustive $(HASTY:%=--ignore %)
	$(HASTE) -m exhaustive $(HASTY)

test-all: test test-rest ## both

test-sizes: $(VENV)/.test ## the head of a language model at all sizes, of which `make test-all` takes all but the largest
	JAXLOSS_SIZES=all $(PYTEST) tests/test_language.py

# The newest jax with the newest Python that is here, by name or under pyenv, in an environment of their own. What a
# release changes shows in the meshes, the checks of values and the contract of a loss of each kind.
NEWEST = $(shell for v in 14 13 12 11; do for p in python3.$$v "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.$$v.*/bin/python; do \
	if "$$p" -c '' 2>/dev/null; then echo "$$p"; exit; fi; done; done)
KINDS := huber_loss or cross_entropy or clip_loss or ctc_loss or dice_loss or triplet or ranking_softmax or poisson or ssim
test-newest: ## a reduced matrix on the newest jax and the newest Python found, in .venv-newest
	$(NEWEST) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade jax jaxlib --editable '.[test]'
	.venv-newest/bin/python -c 'import sys, jax; print("jax", jax.__version__, "Python", *sys.version.split()[:1])'
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 .venv-newest/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
		-m 'not exhaustive' tests/test_contract.py -k '$(KINDS)'
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 .venv-newest/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
		-m 'not exhaustive' tests/test_debug_checks.py tests/test_language_sharding.py tests/test_reduction.py jaxloss

test-peers: $(VENV)/.test $(VENV)/.peers ## compare with the peers; installs torch and others
	$(PYTEST) tests/peers

lint: $(VENV)/.test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test $(VENV)/.peers ## time and memory beside the peers; installs torch and others
	$(BIN)/python -m benchmarks

gallery: $(VENV)/.demo ## draw value and gradient of every elementwise loss, in docs/gallery/
	$(BIN)/python examples/gallery.py

notebooks: $(VENV)/.notebooks $(VENV)/.peers ## run the notebooks and write their outputs; JAXLOSS_QUICK=1: run them shortened, write nothing
	$(BIN)/python notebooks/execute.py

clean: ## remove .venv, out/ and every cache
	rm -rf $(VENV) .venv-newest out build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each extra of pyproject.toml: an install is repeated when that file has changed since.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
