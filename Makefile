# make demo    see unmem at work          make test    run the tests
# make check   all that must hold before a commit: format, lint, types, tests
# make lock    remake locks/ after a change of pyproject.toml; UPGRADE=1 takes the newest versions
# make lowest  the tests with the oldest versions that pyproject.toml allows
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check format slow lock lowest clean
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

lock:
	python3 tools/lock.py $(if $(UPGRADE),--upgrade)

lowest:
	tools/lowest.sh

clean:
	rm -rf .venv

$(READY): pyproject.toml $(wildcard locks/*.txt) tools/install.sh
	tools/install.sh
	touch $@
