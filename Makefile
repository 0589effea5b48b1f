# The book's two commands: `make book` and `make test`. `make help` lists the others.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet

.PHONY: help book test html pdf epub notebooks slides teacher env clean

help:
	@echo "make book       run every chapter on this machine and build the book from the results"
	@echo "make test       run all tests; every chapter must repeat its outputs"
	@echo "make html       build the book from the outputs that came with it, in seconds"
	@echo "make pdf        the whole book as one PDF in _build, printed by an installed Chromium"
	@echo "make epub       the whole book as one EPUB in _build"
	@echo "make notebooks  run every chapter in place, to update the outputs that come with it"
	@echo "make slides     slides of each part, from the chapters' figures, in _build/slides"
	@echo "make teacher    the assignments and exercises with solutions, in _build/teacher"
	@echo "make env        only create .venv and install (the others do it when needed)"
	@echo "make clean      remove what was built; .venv stays"
	@echo
	@echo "PYTHON=python3.12       use this Python, 3.10 or newer, for .venv"
	@echo "TORCH_INDEX=ADDRESS     install torch from this package index first, such as the one"
	@echo "                        that pytorch.org shows under \"Get started\" for the CPU build"

book: $(INSTALLED)
	@$(BIN)/python tools/build_book.py --execute

html: $(INSTALLED)
	@$(BIN)/python tools/build_book.py

pdf: $(INSTALLED)
	@$(BIN)/python tools/one_file.py pdf

epub: $(INSTALLED)
	@$(BIN)/python tools/one_file.py epub

notebooks: $(INSTALLED)
	@$(BIN)/python tools/notebooks.py execute

slides: $(INSTALLED)
	@$(BIN)/python tools/slides.py

teacher: $(INSTALLED)
	@$(BIN)/python tools/teacher.py

test: $(INSTALLED)
	@$(BIN)/python -m pytest

env: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.txt
	@command -v $(PYTHON) > /dev/null || \
	  { echo "$(PYTHON) is not there: name a Python with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 10) or sys.exit( \
	  "Python 3.10 or newer is needed, this is %d.%d: name another with make PYTHON=..." % v)'
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || \
	  { echo "Python's venv is missing: on Debian or Ubuntu, install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv; the first time this takes minutes."
	@rm -f $@
	@$(PYTHON) -m venv .venv
ifdef TORCH_INDEX
	@$(PIP) --index-url "$(TORCH_INDEX)" torch torchvision
endif
	@$(PIP) --requirement requirements.txt
	@# The font cache, which the first chapter would otherwise report on stderr.
	@$(BIN)/python -c 'import matplotlib.font_manager'
	@touch $@

clean:
	rm -rf _build .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +
