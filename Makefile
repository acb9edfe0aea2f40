# `make demo` and `make test` need nothing but Python 3.10 to 3.14 and a network of packages; both use .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The benchmark images are not part of the project; tests that want them are skipped without.
export DRC_DEPLOY_DATA ?=

PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# On Linux the usual torch brings gigabytes for NVIDIA GPUs. Without such a GPU, take the build for CPUs.
CPU_TORCH := https://download.pytorch.org/whl/cpu
REACHABLE := $(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)'

.PHONY: test lint demo docs hostile clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	if ! nvidia-smi >/dev/null 2>&1 && $(REACHABLE) $(CPU_TORCH)/torch/ 2>/dev/null; then \
	  $(PIP) --no-deps --index-url $(CPU_TORCH) torch || echo 'Using torch from the default index instead.'; \
	fi
	$(PIP) -e '.[dev]'
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes: most tests compute with one thread. Tests of one file share what they made.
test: lint
	$(BIN)/pytest -n 2 --dist loadfile

demo: $(VENV)/installed
	BIN=$(BIN) sh demo.sh

docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Damaged files for every reader, and kills at random moments; both take a seed from the clock.
HOSTILE_SECONDS ?= 600
HOSTILE_KILLS ?= 20
hostile: $(VENV)/installed
	$(BIN)/python -m tests.hostile --seconds $(HOSTILE_SECONDS)
	$(BIN)/python -m tests.hostile.kills --kills $(HOSTILE_KILLS)
	$(BIN)/python -m tests.hostile.conditions

clean:
	rm -rf $(VENV) demo_out site
