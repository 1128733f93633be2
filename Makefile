PYTHON ?= python3
BIN = .venv/bin
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab test book slides handout check-book student pictures bench fuzz clean

lab: .venv/lab
	JUPYTERLAB_WORKSPACES_DIR=$(WORKSPACES) $(BIN)/jupyter lab $(AS_ROOT) --ServerApp.ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks/00-start-here.ipynb

# No news pop-up, and the table of contents beside the notebook; what a reader changes later stays as it is
WORKSPACES = $(CURDIR)/.venv/share/jupyter/lab/workspaces
.venv/lab: .venv/ready .book/lab/overrides.json .book/lab/workspace.json
	mkdir -p .venv/share/jupyter/lab/settings
	cp .book/lab/overrides.json .venv/share/jupyter/lab/settings/
	JUPYTERLAB_WORKSPACES_DIR=$(WORKSPACES) $(BIN)/jupyter lab workspaces import .book/lab/workspace.json
	touch $@

pictures: .venv/ready
	$(BIN)/python .book/pictures.py

student: .venv/ready
	$(BIN)/python .book/student.py build/student

# Dozens of processes import the same modules: let the first one keep what it compiled
unexport PYTHONDONTWRITEBYTECODE
# One more than two cores can serve: some tests wait for a TIME_WAIT to end
WORKERS = 3
test: .venv/test-ready
	$(BIN)/ruff check helpers tests .book
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --nbval tests notebooks

bench: .venv/ready
	$(BIN)/pip install --quiet --editable '.[bench,cluster]'
	$(BIN)/python -m tests.benchmark

SECONDS = 600
fuzz: .venv/ready
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	$(BIN)/python tests/fuzz.py $(SECONDS)

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

.venv/test-ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --requirement requirements.txt --editable '.[test,cluster]'
	touch .venv/ready $@

# make book REPOSITORY=https://github.com/owner/name HUB=https://hub.example.org: with buttons that lead there
export REPOSITORY HUB
book: .venv/book
	$(BIN)/python .book/stage.py build/pages
	rm -rf build/book build/doctrees
	$(BIN)/sphinx-build -W --keep-going -q -j auto -c .book -d build/doctrees build/pages build/book

slides: .venv/book
	$(BIN)/python .book/slides.py build/slides

handout: book slides
	$(BIN)/python .book/handout.py build

check-book: book slides handout
	$(BIN)/pytest -n 2 tests/site

.venv/book: .venv/ready
	$(BIN)/pip install --quiet --editable '.[book]'
	touch $@

clean:
	rm -rf .venv build
