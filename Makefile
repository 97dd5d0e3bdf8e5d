# make demo    see unmem at work          make test    run the tests
# make check   all that must hold before a commit: format, lint, types, tests
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check format slow clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/unmem demo

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadscope

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest -n 2 --dist loadscope

slow: $(READY)
	$(BIN)/pytest -m slow

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv

$(READY): pyproject.toml constraints.txt tools/install.sh
	tools/install.sh
	touch $@
