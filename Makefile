# make demo    run the demo              make test    run the tests
# make check   run all checks that a commit must pass: format, lint, types, doctests, tests
# make lock    recreate locks/ after a change of pyproject.toml; UPGRADE=1 selects the newest versions
# make lowest  run the tests with the oldest versions that pyproject.toml allows
# make docs    build the documentation site into site/ and check it; make docs-serve shows it while you edit
# make dist    build sdist and wheel into dist/, and run the wheel in a fresh environment
BIN := .venv/bin
READY := .venv/.ready
DOCS := .venv-docs/bin
DOCS_READY := .venv-docs/.ready

.PHONY: demo test check format slow lock lowest docs docs-serve dist clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/unmem demo

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadscope

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest -q --doctest-modules src
	$(MAKE) test

slow: $(READY)
	$(BIN)/pytest -m slow

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	python3 tools/lock.py $(if $(UPGRADE),--upgrade)

lowest:
	tools/lowest.sh

# Without --quiet, because --strict ignores warnings that are not shown.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict
	$(DOCS)/python tools/check_site.py site
	@echo "The documentation is in site/index.html"

docs-serve: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs serve

dist: $(READY)
	tools/release.sh

clean:
	rm -rf .venv .venv-docs site

$(READY): pyproject.toml locks/dev.txt locks/torch.txt locks/torch-cpu.txt tools/install.sh tools/torch.sh
	tools/install.sh
	touch $@

$(DOCS_READY): locks/docs.txt
	$(or $(PYTHON),python3) -m venv .venv-docs
	$(DOCS)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement locks/docs.txt
	touch $@
