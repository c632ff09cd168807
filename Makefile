# `make` lists what there is.  Everything sets itself up: git, make and some Python >= 3.12 are enough.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# Else the wrapper asks the network for a newer release at every run.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Images set it; then each of the hundred processes that the tests start would compile polybus anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test lint types mypy pyright core collect unit thorough check tools docs dist package image soak booksoak loadsoak chaos faults bench bench-core bench-latency bench-telemetry bench-scale bench-burst profile bench-recovery rules format contract lock clean

help:  ## list the targets
	@echo "polybus: Polymarket's real-time feeds on NATS"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo SECONDS=20        stop by itself after 20 seconds"
	@echo "  make demo JSON=1            one JSON object a line, for a pipe"
	@echo "  make soak SECONDS=600       for ten minutes; SEED=7 for other faults"
	@echo "  make booksoak SECONDS=180 ASSETS=1000"
	@echo "  make loadsoak SECONDS=3600 RATE=5000 SEED=7"
	@echo "  make chaos SECONDS=600 SEED=7 NATS_SERVER_BIN=/a/path    with another server"
	@echo "  make bench ROUNDS=9 MIX=venue    frames as on the venue; FRAMES=file for captured ones"
	@echo "  make setup PYTHON=/a/path   use this interpreter"

setup:  ## make .venv with the locked dependencies (the others do it too)
	@scripts/setup

demo: setup  ## run nats-server, simulator and gateway, and show what arrives
	@$(BIN)/polybus demo $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JSON),--json)

test: setup  ## everything: lint, format, types, tests
	@MAKE="$(MAKE)" scripts/beside lint mypy core collect
	@$(MAKE) unit

lint: setup  ## rules (ruff check) and layout (ruff format --check)
	@echo "== lint"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet

types: setup  ## mypy --strict, and pyright for a second opinion
	@MAKE="$(MAKE)" scripts/beside mypy pyright

mypy: setup
	@echo "== mypy"
	@$(BIN)/mypy

pyright: setup
	@echo "== pyright"
	@$(BIN)/pyright

# As where neither anyio nor nats-py is installed: the plugin hides them, and anyio's own would bring it back.
core: setup  ## the tests of the core, where nothing else is installed
	@echo "== tests of the core, by itself"
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -p tests.core_alone -p xdist -p _hypothesis_pytestplugin \
		--quiet -n 2 tests/protocol

thorough: setup  ## look for new examples that break a property, a thousand for each
	@$(BIN)/pytest --quiet -n 2 --hypothesis-profile=thorough tests/protocol

UNIT := tests/services tests/actors tests/deploy tests/test_boundaries.py

# On a fresh clone pytest compiles each test, and hypothesis reads each module: once here, not in every worker.
collect: setup
	@test -d tests/services/__pycache__ || $(BIN)/pytest --quiet --collect-only $(UNIT) >/dev/null || true

# Most tests wait for sockets, so more files at a time than a small machine has cores are faster.  The longest come
# first, or one of them would be left alone at the end.
unit: setup  ## the other tests; ARGS="tests/actors -k rotation" for some
	@echo "== tests"
	@$(BIN)/pytest --quiet -n 4 --dist loadfile --no-loadscope-reorder $(or $(ARGS),$(UNIT))

check: setup tools docs package  ## pyright; deploy/ against Kubernetes' schemas, checkov and others; docs and dist
	@$(MAKE) pyright
	@echo "== deploy, and what is in dist"
	@CI=true POLYBUS_CHECK=.check/bin POLYBUS_DIST=dist $(BIN)/pytest --quiet -n 3 --dist loadfile tests/deploy

tools: setup  ## fetch what `make check` runs
	@scripts/programs
	@scripts/tools check
	@scripts/tools docs

docs: setup  ## build the pages in docs/ as a site, in build/site
	@scripts/tools docs
	@.docs/bin/zensical build --clean --strict

dist: package  ## build sdist and wheel into dist/, and try the wheel in a clean environment
	@POLYBUS_DIST=dist $(BIN)/pytest --quiet tests/deploy/test_dist.py

package: setup
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist . >.dist.log 2>&1 || { cat .dist.log >&2; exit 1; }
	@rm -f .dist.log

image: setup  ## build the image and try it, where there is a builder
	@scripts/image-test

soak: setup  ## five feeds and one fault after another: nothing is lost unsaid
	@POLYBUS_SOAK_SECONDS=$(SECONDS) POLYBUS_SOAK_SEED=$(SEED) $(BIN)/pytest --quiet tests/actors/test_soak.py

booksoak: setup  ## books under faults: none is believed that is not the venue's own
	@POLYBUS_BOOKSOAK_SECONDS=$(SECONDS) POLYBUS_BOOKSOAK_ASSETS=$(ASSETS) POLYBUS_BOOKSOAK_SEED=$(SEED) \
		$(BIN)/pytest --quiet tests/actors/test_book_soak.py

loadsoak: setup  ## 5,000 frames a second under faults: nothing rises, be it memory, latency or tasks
	@$(BIN)/python -m bench soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json)

chaos: setup  ## NATS or the gateway killed, stopped, cut, full and so on: an account of every event
	@POLYBUS_CHAOS_SECONDS=$(or $(SECONDS),60) POLYBUS_CHAOS_SEED=$(SEED) $(BIN)/pytest --quiet tests/actors/test_chaos.py -k again

faults: setup  ## each fault, until `polybus top` says what docs/faults.md says
	@POLYBUS_FAULTS=1 $(BIN)/pytest --quiet tests/services/test_operator.py

bench: setup  ## processor time per frame beside four rivals; MIX=venue, FRAMES=file, JSON=1
	@scripts/tools bench
	@$(BIN)/python -m bench throughput $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MIX),--mix $(MIX)) \
		$(if $(FRAMES),--frames $(FRAMES)) $(if $(CHART),--chart $(CHART)) $(if $(JSON),--json)

bench-latency: setup  ## from the venue's socket to a subscriber at 1,000, 5,000 and 20,000 frames a second
	@$(BIN)/python -m bench latency $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JSON),--json)

bench-telemetry: setup  ## what telemetry costs at 20,000 events a second
	@$(BIN)/python -m bench telemetry $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json)

bench-scale: setup  ## 10 to 20,000 assets: cost per frame, memory, time to subscribe, a burst of snapshots
	@$(BIN)/python -m bench scale $(if $(SIZES),--sizes $(SIZES)) $(if $(JSON),--json)

bench-burst: setup  ## 4,000 snapshots at once beside 2,000 frames a second: nobody is too slow for the venue
	@$(BIN)/python -m bench burst $(if $(JSON),--json)

bench-core: setup  ## the core alone, without sockets: us per frame by part; INSTRUCTIONS=1 counts them, too
	@$(BIN)/python -m bench core $(if $(INSTRUCTIONS),--instructions) $(if $(FRAMES),--frames $(FRAMES)) $(if $(JSON),--json)

profile: setup  ## a flame graph of the gateway under load, in docs/flame.svg
	@scripts/tools bench
	@$(BIN)/python -m bench profile docs/flame.svg

bench-recovery: setup  ## how soon a fault is noticed and mended, and what books and checks cost
	@$(BIN)/python -m bench.recovery $(ARGS)
	@$(BIN)/python -m bench.books_cost

rules:  ## wrap the alert rules for prometheus-operator
	@scripts/wrap-alerts

format: setup  ## lay the code out, and mend what ruff can
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

contract: setup  ## write contract/, and its pages in docs/, from the code
	@$(BIN)/polybus contract --prefix polymarket.v1 --out contract
	@$(BIN)/polybus contract --prefix polymarket.v1 --pages docs

lock: setup  ## pin the newest dependencies, with hashes, in requirements.lock
	@scripts/lock

clean:  ## remove .venv and what the tools left behind
	@rm -rf .venv .setup.log .check .check.log .docs .docs.log .dist.log .cache .bench .bench.log .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find protocol actors services bench tests -name __pycache__ -type d -prune -exec rm -rf {} +
