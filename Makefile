# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv by itself.
#   PYTHON=python3.12   another interpreter       TORCH=cuda   the GPU build of torch
PYTHON ?= python3.11
TORCH ?= cpu
BIN := .venv/bin
READY := .venv/.ready-$(TORCH)
TORCH_PIN := $(shell grep '^torch==' constraints.txt)
export UV_COMPILE_BYTECODE := 1
export HF_HUB_OFFLINE := 1
export ANONYMIZED_TELEMETRY := False
export GRADIO_ANALYTICS_ENABLED := False

.PHONY: demo workbench serve listen test check lint setup lock clean

demo: $(READY)  ## make a phantom patient, report on it, write everything to demo-output/
	$(BIN)/wetread demo --out demo-output

workbench: $(READY)  ## the clinician's workbench with a phantom patient; prints where it is and how to log in
	$(BIN)/wetread workbench --demo

serve: $(READY)  ## the REST endpoint, with a worker in the same process
	$(BIN)/wetread serve

listen: $(READY)  ## the DICOM listener
	$(BIN)/wetread listen

test: $(READY)  ## every test that needs no server
	$(BIN)/pytest

lint: $(READY)  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## everything above

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "1/4 environment in .venv"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' constraints.txt)
	@echo "2/4 torch ($(TORCH))"
ifeq ($(TORCH),cpu)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps $(TORCH_PIN) 2>/dev/null \
	  || $(BIN)/uv pip install --no-deps --torch-backend=cpu $(TORCH_PIN)
else
	$(BIN)/uv pip install $(TORCH_PIN)
endif
	@echo "3/4 the pinned dependencies"
	$(BIN)/uv pip install $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --requirements constraints.txt
	@echo "4/4 wetread itself"
	$(BIN)/uv pip install --no-deps --editable .
	@touch $@

lock: $(READY)  ## pin again, after a change of pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra fast --extra lora $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) \
	  --no-header --no-annotate --quiet | sed 's/+cpu//' \
	  | { echo "# Every distribution that wetread and its checks need, pinned. Made by: make lock"; cat; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv demo-output workbench-demo build dist
