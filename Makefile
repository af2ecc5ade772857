# Everything a person or CI does here is a target below. ARGS= passes options on: make test ARGS="-k receipts"

BIN := .venv/bin
TRUC := $(BIN)/truc
BOOTSTRAP := sh hub/dev/bootstrap.sh
ENVIRONMENT := .venv/.complete
ARGS ?=

# Where Python may not keep what it has compiled, as in many containers, each process of hub and tests compiles all that
# it imports again, which takes longer than everything else it does to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo bench bench-quick bench-core bench-latency bench-growth bench-backlog bench-loops bench-alone bench-dead
.PHONY: bench-broadcast bench-cluster bench-million bench-parts bench-folder bench-steady test test-cluster test-replay run check format clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(ENVIRONMENT) ## Get everything that is missing: Python packages, RabbitMQ, PostgreSQL
	@$(BOOTSTRAP) services

demo: setup ## Send real documents through a hub of its own, show what happened, leave nothing behind
	@$(TRUC) demo $(ARGS)

bench: setup ## Send the traffic of seven months of 2019 through the whole path, with a report; ARGS="--share 0.1" for a tenth
	@$(BIN)/python -m tests.bench.report --share 1 $(ARGS)

bench-quick: setup ## The figures for every day, compared with the shovel and naive forwarders, within a minute
	@$(BIN)/python -m tests.bench.quick

bench-core: $(ENVIRONMENT) ## What each check of the core costs, with directories of three sizes; needs no service
	@$(BIN)/python -m tests.bench.core $(ARGS)

bench-latency: setup ## How long each delivery takes to each point of its way, at 100 documents a second
	@$(BIN)/python -m tests.bench.latency $(ARGS)

bench-steady: setup ## Whether memory and delays stay flat in half an hour at a steady rate; ARGS="--minutes 30 --per-s 40"
	@$(BIN)/python -m tests.bench.steady $(ARGS)

bench-growth: setup ## What a country with 111,000 agencies costs the hub beside a small one; ARGS="--countries small all-connected" for 12,000 queues
	@$(BIN)/python -m tests.bench.growth $(ARGS)

bench-backlog: setup ## What 50 agencies notice while another one's backlog of 100,000 is held and comes back
	@$(BIN)/python -m tests.bench.backlog $(ARGS)

bench-broadcast: setup ## How long one document to 12,000 agencies takes, and what 50 others notice of it
	@$(BIN)/python -m tests.bench.broadcast $(ARGS)

bench-cluster: setup ## What three RabbitMQ nodes cost beside a single one
	@$(BIN)/python -m tests.bench.cluster $(ARGS)

bench-million: setup ## What a million deliveries that wait cost the intake and the handing over of all others
	@$(BIN)/python -m tests.bench.pending $(ARGS)

bench-loops: setup ## Each loop of the hub by itself: items a second, CPU of each by process
	@$(BIN)/python -m tests.bench.loop_by_loop $(ARGS)

bench-alone: setup ## The hub without agencies, all of its loops at once, beside RabbitMQ's shovel; ARGS="--rounds 3"
	@$(BIN)/python -m tests.bench.alone $(ARGS)

bench-dead: setup ## Measure how fast a million dead letters are listed and grouped, and 10,000 sent again
	@$(BIN)/python -m tests.bench.dead_letters

bench-parts: setup ## Measure 1 GB up and down: MB/s, and the memory that it costs hub and client
	@$(BIN)/python -m tests.bench.parts $(ARGS)

bench-folder: setup ## Measure edXML documents a second from outbox to inbox
	@$(BIN)/python -m tests.bench.folder $(ARGS)

# On a laptop, tests whose service is missing are skipped with the reason; in CI they fail.
test: check ## Run every check and every test
	@$(BOOTSTRAP) services || [ -z "$$CI" ]
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: setup ## Kill nodes of a cluster of three under traffic
	@$(BIN)/pytest -q -m cluster tests/faults/test_cluster.py $(ARGS)

test-replay: setup ## Kill a replay of 10,000 items at every stage, some of which fail again
	@TEST_REPLAY_ITEMS=10000 $(BIN)/pytest -q tests/faults/test_replay_kill_nine.py $(ARGS)

run: setup ## Run the hub until Ctrl-C; its data stay in .truc/run
	@$(TRUC) run --dev $(ARGS)

check: $(ENVIRONMENT) ## Check style, types and imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(ENVIRONMENT) ## Format the code and repair what can be repaired
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

clean: ## Remove the Python environment, caches, and the data of private servers
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m hub.dev clean; fi
	@rm -rf .truc .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache

$(ENVIRONMENT): pyproject.toml uv.lock
	@$(BOOTSTRAP) environment
	@touch $@
