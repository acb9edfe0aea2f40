# `make demo` and `make test` need nothing but Python 3.10 to 3.12 and a network of packages; both use .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The benchmark images are not part of the project; tests that want them are skipped without.
export DRC_DEPLOY_DATA ?=

.PHONY: test lint demo docs clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

demo: $(VENV)/installed
	BIN=$(BIN) sh demo.sh

docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo_out site
