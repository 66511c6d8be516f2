# Every target sets up what it needs in .venv, with PYTHON: the first of these that is there and fits.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(name) -c '$(FITS)' 2>/dev/null && echo $(name))))
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO ?= runs/demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo demo-blind test test-slow lint bench setup lock clean

setup: $(VENV)/.run-time

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "error: no Python from 3.11 to 3.14 found: install one, or make PYTHON=PATH" >&2; exit 1; }
	@$(PYTHON) -c '$(FITS)' || { echo "error: $(PYTHON): r23d_jax needs Python 3.11 to 3.14" >&2; exit 1; }
	@echo "$(VENV): `$(PYTHON) --version`, $(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run-time: $(VENV)/.created requirements.txt
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.tests: $(VENV)/.run-time requirements-dev.txt
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	$(RUN) -m pip install --quiet --no-deps torchvision==0.28.0
	# It comes with PyTorch's CUDA builds, and crashes a process that has loaded TensorFlow.
	$(RUN) -m pip uninstall --quiet --yes triton
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

# Two processes, a file of tests each: more would need more memory than most machines have.
SIDE_BY_SIDE ?= -n 2 --dist loadfile
test: lint
	$(RUN) -m pytest -m "not slow" $(SIDE_BY_SIDE)

# The compiler for GPUs, where no test but those that name it sees it.
$(VENV)/cuda: $(VENV)/.run-time requirements-cuda.txt
	$(RUN) -m pip install --quiet --no-deps --upgrade --target $@ -r requirements-cuda.txt
	touch $@

test-slow: lint $(VENV)/cuda
	$(RUN) -m pytest -m slow

bench: $(VENV)/.tests
	# Not these: they measure nothing of this machine, and compile for hours; are for a GPU; or need to be told for what.
	for file in $(filter-out $(addprefix benchmarks/,networks.py policies.py gpu.py wheels.py probe.py),$(wildcard benchmarks/*.py)); do \
	  PYTHONPATH=. $(RUN) $$file || exit 1; done

# After a change of requirements.in.
LOCK := -m uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate \
  --custom-compile-command "make lock"
lock: $(VENV)/.created
	$(RUN) -m pip install --quiet uv==0.13.9
	$(RUN) $(LOCK) requirements.in --output-file requirements.txt
	$(RUN) $(LOCK) requirements.txt --generate-hashes --output-file requirements.lock

clean:
	rm -rf $(VENV) .venv-other $(DEMO)
