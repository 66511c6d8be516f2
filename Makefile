# Every target sets up what it needs in .venv. PYTHON: 3.11 to 3.13.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO ?= runs/demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo demo-blind test test-slow lint bench setup setup-convert lock clean

setup: $(VENV)/.run-time

# The same with PyTorch, which `convert` needs to read .pt and .pth files.
setup-convert: $(VENV)/.convert

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"error: Python {v[0]}.{v[1]}: r23d_jax needs 3.11 to 3.13; make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run-time: $(VENV)/.created requirements.txt
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.convert: $(VENV)/.run-time requirements-convert.txt
	$(RUN) -m pip install --quiet -r requirements-convert.txt
	touch $@

$(VENV)/.tests: $(VENV)/.convert requirements-dev.txt
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	$(RUN) -m pip install --quiet --no-deps torchvision==0.28.0
	touch $@

# Renders `motion`, builds it, trains a small R(2+3)D on it and scores it over every test video.
demo: setup
	$(VENV)/bin/tfds build tfds_ucf101 --config motion --data_dir=$(DEMO)/data
	$(RUN) -m r23d_jax.main --config configs/demo.py --workdir $(DEMO)/r2plus3d --config.dataset.data_dir=$(DEMO)/data
	@echo "report: $(DEMO)/r2plus3d/report.html"

# The same recipe with a network of the same size that is blind to the order of frames.
demo-blind: demo
	$(RUN) -m r23d_jax.main --config configs/demo.py --workdir $(DEMO)/f_r2d \
	  --config.dataset.data_dir=$(DEMO)/data --config.arch=f_r2d_18

lint: $(VENV)/.tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

test: lint
	$(RUN) -m pytest -m "not slow"

test-slow: lint
	$(RUN) -m pytest -m slow

bench: $(VENV)/.tests
	for file in benchmarks/*.py; do PYTHONPATH=. $(RUN) $$file || exit 1; done

# After a change of requirements.txt.
lock: setup
	$(RUN) -m pip install --quiet uv==0.13.9
	$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" requirements.txt --output-file requirements.lock

clean:
	rm -rf $(VENV) $(DEMO)
