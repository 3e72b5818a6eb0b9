# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first; a second run has nothing to do there.

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench-cpu conformance clean

help: ## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## compile ResNet-50 for this CPU, run it, compare with ONNX Runtime
	@$(BIN)/mlc demo --dir .demo

test: $(STAMP) ## everything that needs no GPU: unit and pass tests, lint, types, layers
	@$(BIN)/python tools/check.py

lint: $(STAMP) ## ruff, pyright and the import layers only
	@$(BIN)/python tools/check.py ruff pyright layers

bench-cpu: $(STAMP) ## CPU benchmarks, beside ONNX Runtime and PyTorch; TORCH_PYTHON=interpreter with PyTorch, BENCH="more arguments"
	@$(BIN)/python benchmarks/cpu.py $(if $(TORCH_PYTHON),--torch-python $(TORCH_PYTHON)) $(BENCH)

conformance: $(STAMP) ## the ONNX backend suite on the CPU
	@$(BIN)/python test/models/conformance.py

clean: ## remove what the targets made, .venv included
	@rm -rf $(VENV) .demo .bench build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml tools/bootstrap.sh
	@tools/bootstrap.sh $(VENV)
	@touch $@
