# The few commands of hgci. Everything they make lies in build/, target/ and third_party/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
CARGO  ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

export CARGO_TARGET_DIR ?= $(CURDIR)/target
# hgext is a workspace of its own; one folder for `pip install`, its tests and its lints.
export HGCI_HGEXT_TARGET := $(CARGO_TARGET_DIR)/hgext
# First a bubblewrap that scripts/fetch-bubblewrap brought, where the system has none.
export PATH := $(CURDIR)/build/tools/bin:$(PATH)

bin := $(CARGO_TARGET_DIR)/release
python := build/venv/bin/python
hg_core := third_party/mercurial-7.2.4/.complete
# Older Mercurials, each with the extension: that of requirements-NAME.txt is in build/venv-NAME.
old_hgs := build/oldest.stamp build/debian12.stamp
hgext_sources := $(shell git ls-files -co --exclude-standard hgext hooks crates/core crates/api crates/results 2>/dev/null \
	|| find hgext hooks crates/core crates/api crates/results -name target -prune -o -type f -print)

.PHONY: help
help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

.PHONY: build
build: binaries build/hgext.stamp build/bubblewrap.stamp ## Programs in target/release, hg with the extension in build/venv

.PHONY: demo
demo: build ## The main job for real: serve, commit, push, build, status, mail
	$(python) tests/demo.py

.PHONY: test
test: build build/hg-tests.stamp build/chg.stamp $(old_hgs) ## All tests
	$(python) scripts/run-suites.py $(SUITES)

.PHONY: test-hg
test-hg: build build/hg-tests.stamp build/chg.stamp $(old_hgs) ## The .t files with each Mercurial and Python that we support
	scripts/make-pythons build/wheel/*.whl
	$(python) scripts/run-suites.py hg 'hg-*'

.PHONY: lint
lint: build/hgext.stamp $(hg_core) ## Format, clippy, ruff, rules of the house
	scripts/lint

.PHONY: bench
bench: build ## Each figure, ours beside floors and peers; ONLY=hook,jobs: some
	$(CARGO) build --release --locked -p hgcid --example claimant --example source_tree
	$(CARGO) build --release --locked -p hgci-results --example million --example fill
	$(python) bench/run.py $(ONLY)

.PHONY: fuzz
fuzz: $(hg_core) ## Every parser against random input, longer than `make test` does
	scripts/fuzz

.PHONY: install
# Under sudo there is often no cargo: then what was built is installed.
install: $(if $(shell command -v $(CARGO)),binaries) ## Programs, systemd unit, man pages, completions: PREFIX=/usr/local DESTDIR=
	scripts/install '$(bin)' '$(DESTDIR)' '$(PREFIX)'

.PHONY: clean
clean: ## Remove all that was made here
	rm -rf build third_party '$(CARGO_TARGET_DIR)'

# Cargo knows best what is out of date, so it is asked each time.
.PHONY: binaries
binaries: $(hg_core)
	scripts/build-binaries

$(hg_core): scripts/fetch-hg-core build/venv.stamp
	rm -f $@
	PYTHON=$(python) scripts/fetch-hg-core

build/venv.stamp: scripts/requirements.txt scripts/make-venv
	scripts/make-venv '$(PYTHON)'
	touch $@

# Compiled to be tested, not to be fast; and what pip keeps of it would be the next one's.
build/venv-oldest.stamp build/venv-debian12.stamp: build/venv-%.stamp: scripts/requirements-%.txt scripts/make-venv
	CFLAGS=-O0 PIP_NO_CACHE_DIR=1 scripts/make-venv "$$(scripts/find-python '$(PYTHON)' 3.9 3.10 3.11)" $*
	touch $@

build/bubblewrap.stamp: scripts/fetch-bubblewrap
	mkdir -p build
	scripts/fetch-bubblewrap
	touch $@

build/wheel.stamp: build/venv.stamp $(hgext_sources)
	rm -rf build/wheel
	CARGO_TARGET_DIR='$(HGCI_HGEXT_TARGET)' PATH="$(CURDIR)/build/venv/bin:$$PATH" \
		$(python) -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel ./hgext
	touch $@

# One wheel for all versions of Mercurial.
build/hgext.stamp: build/wheel.stamp
	$(python) -m pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	touch $@

$(old_hgs): build/%.stamp: build/wheel.stamp build/venv-%.stamp
	build/venv-$*/bin/python -m pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	touch $@

# The client of the command server that comes with Mercurial.
build/chg.stamp: build/hg-tests.stamp
	# Its rules are built-in ones.
	MAKEFLAGS= $(MAKE) --silent -C build/hg-tests/contrib/chg HGPATH='$(CURDIR)/build/venv/bin/hg'
	touch $@

# Mercurial's own test runner, for our .t files and for the test with real input.
build/hg-tests.stamp: $(hg_core)
	rm -rf build/hg-tests
	mkdir -p build/hg-tests
	tar -C build/hg-tests --strip-components=1 -xzf third_party/mercurial-7.2.4.tar.gz
	touch $@
