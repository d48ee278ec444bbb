# Every target works in a fresh clone and creates its environment if needed.
# Another interpreter: make PYTHON=python3.12 venv

PYTHON ?= python3
PYTEST_ARGS ?=
# number of test processes, with one thread each
JOBS ?= 2

VENV := .venv
ONEDL_VENV := .venv-onedl
OLDEST_VENV := .venv-oldest
DOCS_VENV := .venv-docs
PY := $(VENV)/bin/python
ONEDL_PY := $(ONEDL_VENV)/bin/python
OLDEST_PY := $(OLDEST_VENV)/bin/python
INSTALLED := $(VENV)/.installed
ONEDL_INSTALLED := $(ONEDL_VENV)/.installed
OLDEST_INSTALLED := $(OLDEST_VENV)/.installed
OLDEST_TORCH := 2.6.0
HF_VENV := .venv-hugging-face
HF_PY := $(HF_VENV)/bin/python
HF_INSTALLED := $(HF_VENV)/.installed
DOCS_INSTALLED := $(DOCS_VENV)/.installed
BUILT := $(VENV)/.built
OPERATORS := $(wildcard mmfaseg/ops/csrc/*.* mmfaseg/ops/csrc/*/*.*)
PACKAGE := setup.cfg setup.py pyproject.toml requirements.txt requirements/tests.txt
PIP := -m pip --disable-pip-version-check
PYTEST := -m pytest -n $(JOBS) --dist loadfile

test coverage test-slow test-onedl test-oldest test-hugging-face: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help venv build demo demo-instance test coverage test-slow test-onedl test-oldest
.PHONY: test-hugging-face lint docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

venv: $(BUILT) ## create .venv with PyTorch, OpenMMLab, the tools and mmfaseg

build: $(BUILT) ## compile the operators in place, if there is a C++ compiler

demo: $(BUILT) ## train a small FASeg on the CPU and draw its predictions
	$(PY) tools/demo/run_demo.py

demo-instance: $(BUILT) ## the same for instance segmentation
	$(PY) tools/dataset_converters/shapes_to_coco.py
	$(PY) tools/demo/run_demo.py configs/faseg_coco/faseg_r18_1xb8-demo_shapes-instance-128x128.py --out demo_out/instance

test: $(BUILT) ## run the tests, except for slow ones
	$(PY) $(PYTEST) $(PYTEST_ARGS)

coverage: ## run the tests and require a coverage of 90% of mmfaseg/
	$(MAKE) test PYTEST_ARGS="--cov=mmfaseg --cov-report=term:skip-covered --cov-fail-under=90 $(PYTEST_ARGS)"

# worksteal distributes the slow tests of a file over several processes
test-slow: $(BUILT) ## run the slow tests
	$(PY) $(PYTEST) --dist worksteal -m slow $(PYTEST_ARGS)

test-onedl: $(ONEDL_INSTALLED) ## run the smoke tests with the OneDL forks
	$(ONEDL_PY) $(PYTEST) -m smoke $(PYTEST_ARGS)

test-oldest: $(OLDEST_INSTALLED) ## run the smoke tests with PyTorch 2.6 (6 GB), no compiled operators
	MMFASEG_OPS_BACKEND=reference $(OLDEST_PY) $(PYTEST) -m smoke $(PYTEST_ARGS)

test-hugging-face: $(BUILT) $(HF_INSTALLED) ## run the slow checkpoint tests, with transformers installed
	$(HF_PY) $(PYTEST) -m slow tests/test_checkpoints $(PYTEST_ARGS)

lint: $(INSTALLED) ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(DOCS_INSTALLED) ## build the documentation in build/site; warnings are errors
	$(DOCS_VENV)/bin/mkdocs build --strict

clean: ## remove the environments and all build outputs
	rm -rf $(VENV) $(ONEDL_VENV) $(OLDEST_VENV) $(DOCS_VENV) $(HF_VENV) build dist *.egg-info mmfaseg/*.so
	rm -rf .mypy_cache .pytest_cache .ruff_cache

# $(call install,INTERPRETER,CONSTRAINTS,REQUIREMENTS) creates an environment.
# torch is installed first with its exact version, so that pip does not replace
# it with another build.
define install
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	sys.exit(None if (3, 10) <= v < (3, 14) else "mmfaseg requires Python 3.10 to 3.13, \
	$(PYTHON) is %d.%d; use make PYTHON=python3.11 ..." % v)'
	@echo '== 1/4 virtual environment $(1:/bin/python=)'
	$(1) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1:/bin/python=)
	$(1) $(PIP) install -c $(2) setuptools
	@echo '== 2/4 PyTorch: about 1 minute, longer with CUDA'
	$(1) $(PIP) install "$$(grep '^torch==' $(2))"
	@echo '== 3/4 OpenMMLab and tools: about 2 minutes'
	$(1) $(PIP) install -c $(2) -r requirements.txt -r $(3) -r requirements/tests.txt
	@echo '== 4/4 mmfaseg, editable'
	MMFASEG_WITH_OPS=0 $(1) $(PIP) install -c $(2) --no-build-isolation --no-deps -e .
	@touch $(1:/bin/python=)/.installed
endef

$(INSTALLED): constraints.txt requirements/mm.txt $(PACKAGE)
	$(call install,$(PY),constraints.txt,requirements/mm.txt)

# All environments use the same library, because it has a stable ABI.
$(BUILT): $(INSTALLED) $(OPERATORS)
	$(PY) setup.py -q build_ext --inplace
	@touch $@

$(ONEDL_INSTALLED): constraints-onedl.txt requirements/onedl.txt $(PACKAGE)
	$(call install,$(ONEDL_PY),constraints-onedl.txt,requirements/onedl.txt)

# PyTorch 2.6 pins its own version of sympy.
build/constraints-oldest.txt: constraints.txt
	@mkdir -p build
	sed -e 's/^torch==.*/torch==$(OLDEST_TORCH)/' -e '/^sympy==/d' $< > $@

$(OLDEST_INSTALLED): build/constraints-oldest.txt requirements/mm.txt $(PACKAGE)
	$(call install,$(OLDEST_PY),build/constraints-oldest.txt,requirements/mm.txt)

# Adds transformers to the packages of .venv, but not to .venv itself, because
# mmdet imports transformers if it is installed, which takes seconds.
$(HF_INSTALLED): $(INSTALLED) requirements/hugging_face.txt
	$(PYTHON) -m venv --clear $(HF_VENV)
	$(PY) -c 'import sysconfig; path = sysconfig.get_path("purelib"); \
	print(f"import site; site.addsitedir({path!r})")' \
	> "$$($(HF_PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth"
	$(HF_PY) $(PIP) install -q -c constraints.txt -r requirements/hugging_face.txt
	@touch $@

$(DOCS_INSTALLED): constraints.txt requirements/docs.txt
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python $(PIP) install -q -c constraints.txt -r requirements/docs.txt
	@touch $@
