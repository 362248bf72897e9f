# make demo      runs a scaling study of digits, 1 to 8 workers, and says what came of it
# make test      runs all tests
# make lint      ruff, import contracts, shellcheck, types
# make setup     [GPU=1] [TORCH_INDEX=URL] [TORCH_VERSION=2.15.0] [MPI=pypi|site|/path/to/mpicc] [JOBS=4]
# make data      [NAME=mnist] fetches a data set
# make slurm     fetches Debian's Slurm into build/, for the next and for tests/slurm; nothing is installed
# make slurm-shell  [NODES=4] a shell in a Slurm cluster of its own, on this machine, as root
# make campaign  [NAME=tests/jobs/test_endings.py] the long trials: hours; what came of them stands in docs/
# make reproduction  [NAME=reddi] writes docs/reproduction.md; a NAME takes over its result from runs/ first
# make bench     measures the figures of docs/performance.md: half an hour or more of a quiet machine
# make bench-check  compares ratios with the recorded ones, never times
# make clean     removes what set-up and builds have made; the cache of compiled wheels stays
# Every target sets up what is missing first; where nothing is, that takes less than a second. docs/install.md

# A word of the command line; some machines have a variable of this name that says theirs.
ifeq ($(origin NAME),environment)
NAME :=
endif

PYTHON ?= python3
bin := .venv/bin
shell_scripts := launchers/common.sh launchers/local launchers/mpirun launchers/horovodrun launchers/srun .ci/run \
	slurm/job.sh slurm/site.example.sh slurm/train.sbatch slurm/study.sbatch \
	slurm/bench.sbatch \
	tests/slurm/box/init.sh tests/slurm/box/node.sh tests/slurm/box/power_on.sh

arguments = $(if $(GPU),--gpu '$(GPU)') $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)') \
	$(if $(TORCH_VERSION),--torch-version '$(TORCH_VERSION)') $(if $(MPI),--mpi '$(MPI)') $(if $(JOBS),--jobs '$(JOBS)')

.PHONY: help setup tools demo test lint slurm slurm-shell campaign reproduction data bench bench-check clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help:
	@sed -n '/^# /s/^# //p' Makefile

setup:
	@command -v '$(PYTHON)' >/dev/null || { echo "setup: there is no $(PYTHON): ask for these packages: apt install python3 python3-venv python3-dev" >&2; exit 1; }
	@'$(PYTHON)' -m bootstrap $(arguments)

tools:
	@'$(PYTHON)' -m bootstrap $(arguments) --extra dev

demo: setup
	@$(bin)/hvd-adam study run configs/studies/digits.yaml
	@$(bin)/hvd-adam study report runs/digits

test: setup
	@$(bin)/python -m pytest tests/unit
	@launchers/mpirun -n 1 -- python -m pytest -q tests/parallel
	@launchers/mpirun -n 2 -- python -m pytest -q tests/parallel
	@launchers/mpirun -n 4 -- python -m pytest -q tests/parallel
	@$(bin)/python -m pytest tests/jobs
	@if $(bin)/python tests/slurm/able.py; then $(MAKE) --no-print-directory slurm; fi
	@$(bin)/python -m pytest tests/slurm
	@$(bin)/python -m pytest tests/docs

lint: tools
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@PYTHONPATH=. $(bin)/lint-imports
	@$(bin)/mypy
	@$(bin)/shellcheck -x $(shell_scripts)

slurm: setup
	@$(bin)/python tests/slurm/packages.py build/slurm

slurm-shell: slurm
	@$(bin)/python tests/slurm/shell.py $(or $(NODES),4)

campaign: setup
	@HVD_ADAM_CAMPAIGN=1 $(bin)/python -m pytest $(or $(NAME),tests/campaign tests/unit tests/jobs tests/slurm)

reproduction: setup
	@$(bin)/python -m hvd_adam.reproduce $(NAME)

data: setup
	@$(bin)/hvd-adam data get $(or $(NAME),mnist)

bench: setup
	@$(bin)/python benchmarks/table.py

bench-check: setup
	@$(bin)/python benchmarks/table.py --check

clean:
	rm -rf .venv build *.egg-info
