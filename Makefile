# make demo    set up .venv, build the example, co-simulate it, say where the results lie
# make test    the test suite             make lint     ruff and mypy
# make regress the long tests             make bench    cycles, utilization and lost cycles of every network and array
# make accuracy what quantization costs, beside goals and other tools
# make measure scores and exactness of every network at hand
# make clean   remove what was made here

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/digits
EXAMPLE := examples/digits

.PHONY: demo test regress bench measure accuracy lint clean prerequisites

demo: $(VENV)/.installed
	$(BIN)/hwgen build $(EXAMPLE)/model.onnx --calibration $(EXAMPLE)/calibration.npz -o $(OUT)
	$(BIN)/hwgen verify $(OUT) --inputs $(EXAMPLE)/test.npz --count 3
	$(BIN)/hwgen evaluate $(OUT) --inputs $(EXAMPLE)/test.npz
	@echo "report:    $(OUT)/report/report.html"
	@echo "Verilog:   $(OUT)/rtl"
	@echo "firmware:  $(OUT)/include, $(OUT)/src"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n 2 tests rtl_tests

regress: $(VENV)/.installed-test
	HWGEN_REGRESS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests rtl_tests
	$(BIN)/python tests/random_hardware.py

bench: $(VENV)/.installed-test
	$(BIN)/python tools/bench.py

measure: $(VENV)/.installed-test
	$(BIN)/python tools/measure.py

accuracy: $(VENV)/.installed-test
	$(BIN)/python tools/accuracy.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

# What pip cannot bring; checked first, because a missing compiler would otherwise show only after the installation.
prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install python3 (3.11 or newer)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: 3.11 or newer is needed; name another with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "the venv module is missing: apt-get install python3-venv" >&2; exit 2; }
	@command -v g++ >/dev/null || { echo "g++ is missing: apt-get install g++ (Fedora: dnf install gcc-c++; macOS: xcode-select --install)" >&2; exit 2; }
	@command -v perl >/dev/null || { echo "perl is missing: apt-get install perl (Fedora: dnf install perl; macOS: brew install perl)" >&2; exit 2; }

$(VENV)/.installed: pyproject.toml | prerequisites
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | prerequisites
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
