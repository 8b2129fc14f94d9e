# Needs Python 3.11 or newer, make and git; everything else is installed into .venv, from the Python package index.
# PYTHON=... names the Python to make it with.

SHELL := bash
export PYTHON
unexport PYTHONDONTWRITEBYTECODE # otherwise each process would compile every file anew
bin := .venv/bin

.DEFAULT_GOAL := help
.NOTPARALLEL: # the targets below are stages and run in the order they are named in

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

train: .venv/examples ## train the example classifier with the generated Adam
	@$(bin)/mlax-codegen generate --check
	@$(bin)/python examples/train_digits.py

precision: .venv/examples ## train in float32 and in bfloat16, and draw how each learns
	@$(bin)/python examples/half_precision.py

examples: .venv/examples ## train a convolutional, a recurrent and a language model, and fine-tune one
	@$(bin)/python examples/convolution.py
	@$(bin)/python examples/time_series.py
	@$(bin)/python examples/language_model.py
	@$(bin)/python examples/fine_tuning.py

distributed: .venv/examples ## train the language model on 8 simulated devices, then in two processes; go on with fewer
	@$(bin)/python examples/distributed.py --devices 8 --until 120
	@$(bin)/python examples/distributed.py --devices 4
	@$(bin)/python examples/processes.py 2 examples/distributed.py --devices 4 --until 120
	@$(bin)/python examples/distributed.py --devices 1

test: lint types suite versions ## everything that has to hold: lint, types, tests

quick: lint ## an answer in three minutes: lint, and the tests that other Pythons run too
	@.ci/suite .venv portable

lint: .venv/test ## ruff, the generated code against its specs, and the directions of imports
	@echo "== lint"
	@$(bin)/python -m ruff check
	@$(bin)/python -m ruff format --check
	@$(bin)/mlax-codegen generate --check
	@$(bin)/lint-imports --no-logo --no-cache
	@$(bin)/python .ci/structure.py

structure: .venv/test ## the import graph in figures: files, levels, imports, cycles
	@$(bin)/python .ci/structure.py

types: .venv/test ## pyright, mypy, pyrefly, ty and the completeness of the public types
	@echo "== types"
	@.ci/types

mistakes: .venv/test ## which mistakes pyright, mypy, pyrefly and ty see in tests/typed/programs
	@$(bin)/python -m tests.typed

suite: .venv/test ## the tests on the Python of .venv
	@.ci/suite .venv

versions: .venv/test suite ## the same tests on the oldest and the newest Python, where they are found
	@.ci/versions

latest: .venv/test ## the tests with the newest versions that pyproject.toml allows, and on the Pythons left out
	@.ci/environment .venv-latest test "" latest
	@.ci/suite .venv-latest
	@.ci/versions middle

oldest: ## the tests with the lowest versions that pyproject.toml declares
	@.ci/environment .venv-oldest test "" oldest
	@.ci/suite .venv-oldest

lock: ## look up the newest versions, which make test then installs (.ci/constraints.txt)
	@.ci/lock

bench: .venv/test ## measure mlax beside its peers (QUICK=1: in two minutes; DOCS=1: into docs/, too)
	@$(bin)/python -m benchmarks $(if $(QUICK),--quick) $(if $(DOCS),--docs)

generate: .venv/test ## write generated/ anew from codegen/specs/
	@$(bin)/mlax-codegen generate

format: .venv/test ## format and sort imports
	@$(bin)/python -m ruff check --fix
	@$(bin)/python -m ruff format

clean: ## remove what the other targets made, the environments too
	rm -rf .venv .venv-* out dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/%: FORCE
	@.ci/environment .venv $*

FORCE:
.PHONY: help train precision examples distributed test quick lint structure types mistakes suite versions latest oldest lock bench generate format clean FORCE
