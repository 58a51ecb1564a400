# `make` alone lists the targets. Each one sets up .venv by itself, from requirements.lock.
#
#   make PYTHON=python3.12 book                         the interpreter that .venv is made with
#   make test ARGS="-k layers"                          what else pytest is told
#   make book PURE_JUPYTERHUB_URL=https://hub.example.org
#                                                       also PURE_BINDER_URL, PURE_REPOSITORY_URL: the launch buttons
#   make reproduce TARGET=table6 PROFILE=gpu            a table or figure of the paper; ARGS=-n: the plan only
#   make lock ARGS=--upgrade                            what else `uv pip compile` is told

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Touched when an installation is complete: one that was interrupted starts again, and pip keeps what is there already.
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
# Networks this small gain little by a second thread, and lose several times over where another process has the core.
export OMP_NUM_THREADS ?= 1
# What `make reproduce` makes, a target of workflow/experiments.yaml, and where: a folder of workflow/profiles.
TARGET ?= quick
PROFILE ?= quick

.DEFAULT_GOAL := help
.PHONY: help book check check-networks check-others reproduce test bench pdf links release lint format hub store lock clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

book: $(INSTALLED) ## train the book's small networks, execute its notebooks, build its pages
	@echo "==> Training the small networks (minutes the first time; runs that are up to date are skipped)"
	$(BIN)/python workflow/reproduce.py quick
	@echo "==> Building the pages (a minute or two; only notebooks that changed are executed again)"
	$(BIN)/jupyter-book build . --all -n -W --keep-going
	@echo "==> The book lies in _build/html/index.html: open it in a browser"

reproduce: $(INSTALLED) ## TARGET=table6 PROFILE=gpu: the runs of a table or figure of the paper; ARGS=-n: the plan only
	$(BIN)/python workflow/reproduce.py $(TARGET) --profile $(PROFILE) $(ARGS)

test: book ## build the book, then test the package, the notebooks and the pages
	@echo "==> Testing (minutes; the browser test is skipped where there is no Chromium)"
	$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED) ## lint, and the tests that need neither the book nor a training: a minute and a half on two cores
	@$(MAKE) --no-print-directory --jobs=3 lint check-networks check-others

check-networks check-others: $(INSTALLED)
	@echo "==> Testing what needs neither the book nor a training ($@)"
	$(BIN)/python -m pytest --quiet -p no:cacheprovider -m "not slow" $($@) $(ARGS)

check-networks: check-networks = tests/nn tests/models tests/report
# Half of the time each; with ignored folders, so that a new one is tested too.
check-others: check-others = tests --ignore=tests/nn --ignore=tests/models --ignore=tests/report

bench: $(INSTALLED) ## measure the networks' speed on this machine, into _build/benchmarks; ARGS=--quick: a minute
	@echo "==> Measuring (up to ten minutes; nothing else should run meanwhile)"
	$(BIN)/python benchmarks/bench.py --out _build/benchmarks $(ARGS)

pdf: book ## print the whole book into _build/pdf/book.pdf; needs Chromium
	$(BIN)/python book/tools/print_book.py

links: book ## ask every address that the book names whether it still answers; once a week is enough
	@echo "==> Checking links (minutes; the report is _build/links/_build/html/output.txt)"
	$(BIN)/jupyter-book build . --builder linkcheck --path-output _build/links

release: book ## pack the pages of a tagged commit into _build/release, with their checksum
	$(BIN)/python book/tools/release.py

lint: $(INSTALLED) ## check style, format and types
	@echo "==> Checking style, format and types (seconds; longer the first time, when mypy reads PyTorch)"
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(INSTALLED) ## put the code into the format that `make lint` expects
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

hub: $(INSTALLED) ## in a terminal of a JupyterHub: make it know this environment, as a kernel; .py opens as a notebook
	$(BIN)/python hub/register.py $(ARGS)

store: $(INSTALLED) ## execute the light notebooks and store the outputs that the tests compare
	$(BIN)/python tests/store_notebooks.py

lock: $(INSTALLED) ## resolve pyproject.toml into the two locks; versions in it stay unless ARGS=--upgrade
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS) \
	    pyproject.toml --output-file requirements.lock
	@{ echo "# requirements.lock without what only PyTorch with CUDA needs; book/hub.py says how to install it"; \
	    awk '/^(cuda|nvidia|triton)/ { left_out = 1; next } /^[^ ]/ { left_out = 0 } !left_out' requirements.lock; \
	} > requirements-cpu.lock

clean: ## remove what was built: pages, runs and caches (.venv stays)
	rm -rf _build book/runs .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# Without build isolation: the build backend is the locked one, and a changed pyproject.toml needs no network.
$(INSTALLED): $(LOCKED) pyproject.toml
	@echo "==> Installing pure itself, as a link to this folder (seconds)"
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

# Byte code is left to the first import: pip would compile all of PyTorch's, most of which is never loaded.
$(LOCKED): requirements.lock
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(CHECK_PYTHON); \
	    echo "==> Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "==> Installing what requirements.lock names (minutes the first time: several gigabytes, mostly PyTorch with CUDA)"
	$(BIN)/python -m pip install --no-compile --requirement requirements.lock
	@touch $@

define CHECK_PYTHON
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
    echo "pure needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)."; \
    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python;"; \
    echo "conda: conda create -n pure python=3.11) and name it: make PYTHON=python3.12"; exit 1; } >&2; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
    echo "'$(PYTHON)' ($$($(PYTHON) --version)) cannot make virtual environments: its modules venv and ensurepip are missing."; \
    echo "Install them (Debian, Ubuntu: apt install python3-venv) or name another interpreter: make PYTHON=python3.12"; \
    exit 1; } >&2
endef
