# Two commands for a fresh clone: `make demo` and `make test`. Both make or reuse .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv venv-demo demo test check lint format types pytest kilted rtx gate-full speed clean fuzz

# The newest Python that both the ROS wheels and Ubuntu's ROS know, 3.11 first.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.10 python3,$(shell command -v $(name))))
VENV := .venv
DEMO_EXTRAS := runtime,ros-jazzy,synthetic,render
BIN := $(VENV)/bin
# What is installed is stamped with the dependencies it was installed for.
DEPENDENCIES := $(shell cksum < setup.py | tr ' ' '-')
STAMP_DEMO := $(VENV)/.cigocc-demo-$(DEPENDENCIES)
STAMP_ALL := $(VENV)/.cigocc-all-$(DEPENDENCIES)
# `make test` brings all that `make demo` needs.
STAMP_FOR_DEMO := $(if $(wildcard $(STAMP_ALL)),$(STAMP_ALL),$(STAMP_DEMO))

# A real parser and builder without a GPU: the first is of the age of TensorRT 10.16 (JetPack 7.2),
# the second of TensorRT 11. They cannot share an environment. Wheels exist for x86-64 only.
RTX := .rtx
RTX_VERSIONS := 1.4.0.76 1.7.1.116
RTX_STAMPS := $(if $(filter x86_64,$(shell uname -m)),$(RTX_VERSIONS:%=$(RTX)/%/.ready))

# The ROS tests once more on the wheels of Kilted, with the newest Python that runs here: the
# interpreters on the PATH, then those of pyenv. The modules of Kilted have the names of Jazzy's, so
# they get an environment of their own.
KILTED := .kilted
KILTED_EXTRAS := runtime,ros-kilted,test,bag
KILTED_PYTHON ?= $(lastword $(PYTHON) $(foreach path,$(foreach name,python3.12 python3.13,$(shell command \
    -v $(name))) $(wildcard $(HOME)/.pyenv/versions/3.1[23].*/bin/python3),$(shell $(path) -c \
    'import sys, venv; print(sys.executable)' 2>/dev/null)))
KILTED_READY := $(KILTED)/.cigocc-$(DEPENDENCIES)
KILTED_MADE := $(if $(filter x86_64,$(shell uname -m)),$(KILTED_READY))
KILTED_TESTS := test/doctor test/ros/input test/ros/output test/ros/players test/ros/test_node.py \
    test/ros/test_interface.py test/ros/test_live_parameters.py test/ros/test_planners.py \
    test/ros/test_fault_publishers.py test/ros/test_fault_signals.py

# A ROS of the system, or another wheel environment, must not mix with the one in .venv.
unexport PYTHONPATH AMENT_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

SEQUENCE ?=
FRAMES ?=
PYTEST_ARGS ?=
export PYTEST_ARGS
# Half of the work of all tests; none of them talks to another by ROS, as all others may.
NETWORK_TESTS := test/core test/data test/export test/model test/runtime test/training
MINUTES ?= 10
TARGETS ?=
# Wheels for Linux and Python 3.11 to 3.13, hence in no extra.
ATHERIS := atheris==3.0.0

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  make demo SEQUENCE=dataset/sequences/00 FRAMES=20   replays a KITTI folder'
	@echo '  make pytest PYTEST_ARGS="test/core -k grid"         runs some of the tests'

demo: $(STAMP_FOR_DEMO) ## replay a sequence through the node, write pictures
	$(BIN)/cigocc demo $(if $(SEQUENCE),--sequence '$(SEQUENCE)') $(if $(FRAMES),--frames '$(FRAMES)')

# Environments are made side by side where they do not write the same metadata beside setup.py.
test: ## lint, types and every test; the ROS tests on Kilted too
	@$(MAKE) --no-print-directory -j3 $(STAMP_ALL) $(RTX_STAMPS)
	@$(MAKE) --no-print-directory -j2 check $(KILTED_MADE)
	@$(MAKE) --no-print-directory pytest
	@$(MAKE) --no-print-directory kilted

check: lint types

lint: $(STAMP_ALL) ## check style and format
	@echo '== lint'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP_ALL) ## rewrite to the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP_ALL) ## check types: strict, in the package, benchmark and fuzz
	@echo '== types'
	$(BIN)/mypy

pytest: $(STAMP_ALL) ## run the tests alone: all in two processes, or what PYTEST_ARGS names
	@echo '== tests'
	@if [ -n "$$PYTEST_ARGS" ]; then exec $(BIN)/python -m pytest --durations=10 $(PYTEST_ARGS); fi; \
	export OMP_NUM_THREADS=1; log=$$(mktemp); status=0; set -m; \
	$(BIN)/python -m pytest --durations=10 $(NETWORK_TESTS) > "$$log" 2>&1 & network=$$!; \
	trap 'kill $$network 2> /dev/null || true; rm -f "$$log"' EXIT; \
	$(BIN)/python -m pytest --durations=10 test $(NETWORK_TESTS:%=--ignore=%) || status=$$?; \
	echo '== tests of the network, which ran beside these'; \
	wait $$network || status=$$?; cat "$$log"; exit $$status

kilted: $(KILTED_MADE) ## the ROS tests on Kilted, in .kilted with Python 3.12 or 3.13
	@echo '== tests on Kilted'
	@if [ ! -e $(KILTED_READY) ]; then echo 'skipped: ROS wheels exist for x86-64 only'; exit 0; fi; \
	$(KILTED)/bin/python -c 'import importlib.metadata as m, sys; print("rclpy", m.version("ros-kilted-rclpy"), "Python", sys.version)'; \
	$(KILTED)/bin/python -m pytest --durations=5 $(KILTED_TESTS)

rtx: $(RTX_STAMPS) ## make .rtx with TensorRT-RTX 1.4 and 1.7, 0.3 GB each, for the parser gate

fuzz: $(STAMP_ALL) ## fuzz the parsers, MINUTES=10 each; TARGETS="configs archives" for some
	$(BIN)/python -m pip install --quiet $(ATHERIS)
	nice -n 10 $(BIN)/python -m fuzz $(TARGETS) --minutes '$(MINUTES)'

gate-full: $(STAMP_ALL) rtx ## parse and build both files of the largest network, minutes
	CIGOCC_FULL=1 $(BIN)/python -m pytest -rP test/runtime/tensorrt/test_parser_gate.py -k full

speed: $(STAMP_ALL) ## measure the whole path, write docs/speed.md; minutes on a quiet machine
	$(BIN)/python -m benchmark.speed --page docs/speed.md

venv: $(STAMP_ALL) ## make .venv with everything: ROS wheels, torch, tools

venv-demo: $(STAMP_FOR_DEMO) ## make .venv with what the demo needs, without torch

$(BIN)/python:
	@if [ -z '$(PYTHON)' ]; then echo 'make: no python3 found: install Python 3.11' >&2; exit 1; fi
	@'$(PYTHON)' -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "make: $(PYTHON) is no Python 3.10 to 3.13: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo '== making $(VENV) with $(PYTHON)'
	@'$(PYTHON)' -m venv $(VENV) || { rm -rf $(VENV); \
	    echo 'make: no venv: on Debian and Ubuntu apt install python3-venv' >&2; exit 1; }

# install(extras): an editable installation, so that nothing has to be installed again after edits.
define install
	@echo '== installing .[$(1)] into $(VENV); downloads once'
	$(BIN)/python -m pip install 'setuptools>=64,<80' wheel
	$(BIN)/python -m pip install --no-build-isolation --editable '.[$(1)]'
	@rm -f $(VENV)/.cigocc-$(2)-*
	@touch $@
endef

$(STAMP_DEMO): | $(BIN)/python
	$(call install,$(DEMO_EXTRAS),demo)

$(STAMP_ALL): | $(BIN)/python
	$(call install,all,all)

$(KILTED_READY):
	@echo '== installing .[$(KILTED_EXTRAS)] into $(KILTED) with $(KILTED_PYTHON); downloads once'
	'$(KILTED_PYTHON)' -m venv --clear $(KILTED)
	$(KILTED)/bin/python -m pip install --quiet 'setuptools>=64,<80' wheel onnx
	$(KILTED)/bin/python -m pip install --quiet --no-build-isolation --editable '.[$(KILTED_EXTRAS)]'
	@touch $@

$(RTX)/%/.ready: | $(BIN)/python
	@echo '== installing tensorrt-rtx $*; downloads once'
	$(BIN)/python -m venv $(RTX)/$*
	$(RTX)/$*/bin/python -m pip install --quiet tensorrt-rtx==$* numpy PyYAML || { rm -rf $(RTX)/$*; \
	    echo 'make: no tensorrt-rtx $*; "make pytest" runs the other tests without it' >&2; exit 1; }
	@touch $@

clean: ## remove .venv, .kilted, .rtx and everything built
	rm -rf $(VENV) $(KILTED) $(RTX) build install log dist demo_output *.egg-info .mypy_cache .pytest_cache .ruff_cache
