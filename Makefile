# The two commands are `make demo` and `make test`; each first builds what is missing in .venv.
#
# torch comes from whichever index pip is configured for, and a CUDA build serves as well as a CPU
# build. pip's own variables choose another one, e.g. the index of torch's CPU builds, which has to
# offer torchvision too, since the two must be of one build:
#   PIP_EXTRA_INDEX_URL=<index> make install

PYTHON ?= python3
TEACHER ?= shipped
TARGET_PYTHON ?= 3.12

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INPUTS := pyproject.toml constraints.txt $(wildcard third_party/detectron2/*.py)

.DEFAULT_GOAL := help
.PHONY: help install test demo lint wheelhouse clean

help:
	@echo 'make demo                draw data, distil a student, compare it with an undistilled one'
	@echo 'make demo TEACHER=train  the same, training the teacher first'
	@echo 'make test                run all tests'
	@echo 'make lint                check style and formatting'
	@echo 'make wheelhouse          collect packages for a GPU machine without a network'
	@echo 'make install             build .venv; the others do it by themselves'
	@echo 'make clean               remove .venv and caches, but no data and no output'
	@echo 'PYTHON=... chooses the interpreter that .venv is built with (>= 3.10; python3)'
	@echo 'TARGET_PYTHON=... is that of the GPU machine (3.12)'

install: $(STAMP)

# One torch thread for each of the two processes: more would only compete for the same cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

demo: $(STAMP)
	$(BIN)/python tools/demo.py --teacher $(TEACHER)

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

wheelhouse: $(STAMP)
	$(BIN)/python benchmarks/wheelhouse.py --python $(TARGET_PYTHON)

clean:
	rm -rf $(VENV) build dist .hypothesis .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -exec rm -rf {} +

# A detectron2 that the second command finds is left as it is.
$(STAMP): $(BIN)/python $(INPUTS)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[test]'
	$(BIN)/python third_party/detectron2/install.py --constraint constraints.txt
	@$(BIN)/python -c 'import torchvision' || { \
		echo "torch and torchvision do not match: both must come from one index"; \
		exit 1; }
	@touch $@

$(BIN)/python:
	@command -v '$(PYTHON)' >/dev/null || { \
		echo "no '$(PYTHON)' here: install Python >= 3.10, or name one: make PYTHON=python3.12 ..."; \
		exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "'$(PYTHON)' is $$('$(PYTHON)' -V 2>&1), but >= 3.10 is needed:" \
			"name another one: make PYTHON=python3.12 ..."; \
		exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { \
		rm -f $@; \
		echo "'$(PYTHON)' cannot make a virtual environment: on Debian and Ubuntu, install" \
			"python3-venv"; \
		exit 1; }
