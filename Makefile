# Needs Python 3.11 or later and make; everything else goes into .venv.
PYTHON ?= python3
# Tests start hundreds of processes: each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
RUNS := .venv/runs
INSTALLED := .venv/installed
COMPILED := .venv/compiled

.PHONY: run street test test-real tests install check soak bench scenarios town-month takeover past docs dashboards dashboard-types deb clean constraints

run: $(RUNS) ## start the demonstration town; Ctrl-C stops it
	$(BIN)/commonwatt demo

street: $(RUNS) ## start your own street, in the folder site; Ctrl-C stops it, and it starts again where it was
	$(BIN)/commonwatt street

test: install ## run the checks and the tests that need nothing but Python: no result depends on the machine's speed
	$(MAKE) --no-print-directory -j 2 check tests

test-real: $(COMPILED) ## test real processes, databases, brokers, browsers and clocks, plant every bug; names what is not installed first
	$(BIN)/python -m harness.real.missing
	$(BIN)/python -m pytest -q -n 4 --dist loadscope --no-loadscope-reorder -m "real and not smoke"

tests: $(COMPILED)
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "smoke or not real"

# In a new clone, once: or each of the processes that run tests compiles all modules and tests for itself.
$(COMPILED): $(INSTALLED)
	$(BIN)/python -m pytest -q --collect-only > /dev/null || true
	touch $@

install: $(INSTALLED) ## make .venv and install pinned dependencies, those of checks and tests too

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# What runs, without what tests: half of the time, and of the disk.
$(RUNS): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Commonwatt needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e '.[all]'
	touch $@

$(INSTALLED): $(RUNS)
	$(PIP_INSTALL) -e '.[all,dev]'
	touch $@

check: install ## check lint, format, strict types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: install ## kill a running town's processes for an hour, then ten thousand simulated worlds of readings, of energy, of a clique and of a month's end, each planted bug anew, power cuts, broken MQTT and bad messages, a million steps of the physics, a thousand days of settlement, ten thousand ledgers, lines of the cores changed one at a time, every page at each size in both themes, all packages, the tests on Debian 13 with Python 3.13, then the known vulnerabilities of the pinned dependencies; HOURS=8 SEEDS=1000 CUTS=10000 CASES=1000000
	$(BIN)/python -m harness.chaos --hours $(or $(HOURS),1)
	$(BIN)/python -m harness.world --seeds 1 $(or $(SEEDS),10000) --log .venv/worlds.jsonl
	$(BIN)/python -m harness.world --kind energy --hours 1 --seeds 1 $(or $(SEEDS),10000) --log .venv/worlds-of-energy.jsonl
	$(BIN)/python -m harness.world --kind clique --hours 0.25 --seeds 1 $(or $(SEEDS),10000) --log .venv/worlds-of-cliques.jsonl
	$(BIN)/python -m harness.world --kind month --hours 1 --seeds 1 $(or $(SEEDS),10000) --log .venv/worlds-of-months.jsonl
	$(BIN)/python -m harness.world.found
	$(BIN)/python -m harness.clique.exhaustive --faults 2 --ticks 8
	$(BIN)/python -m harness.clique.exhaustive --faults 1 --losses 1 --ticks 4
	$(BIN)/python -m harness.fuzz.broker --cases $(or $(CASES),500000)
	$(BIN)/python -m harness.fuzz.messages --cases $(or $(CASES),500000) --seed 2
	$(BIN)/python -m harness.foreign.counters --sequences $(or $(CASES),500000)
	$(BIN)/python -m harness.foreign.payloads --cases $(or $(CASES),500000)
	$(BIN)/python -m harness.strategies --microgrids $(or $(CASES),1000000)
	$(BIN)/python -m harness.world.exhaustive --minutes 2
	SMALL_WORLDS=all $(BIN)/python -m pytest -q tests/world/test_small_world.py
	$(BIN)/python -m harness.energy --steps $(or $(CASES),1000000)
	$(BIN)/python -m harness.settlement --days $(or $(DAYS),1000)
	$(BIN)/python -m harness.settlement --truth 96
	$(BIN)/python -m harness.settlement --residual 3
	$(BIN)/python -m harness.ledger.histories --seeds 1 $(or $(SEEDS),10000)
	$(BIN)/python -m harness.powercut --cuts $(or $(CUTS),1000)
	METER_EXAMPLES=5000 FLIPS=2000 GATEWAY_FLIPS=140 BILL_TOWNS=1000 HISTORIES=200 ORDERS=3 MAIL_SEEDS=50 BYTE_COUNTS=128 BAD_MESSAGES=10000 GREEN_BUTTON=all $(BIN)/python -m pytest -q \
		tests/unit/device/test_meter_stateful.py tests/unit/utility/assembly/test_damage.py tests/unit/utility/billing/test_bills.py \
		tests/unit/utility/ledger/test_ledger.py tests/unit/support/test_fuzz.py tests/unit/utility/care/test_joining.py tests/unit/utility/mail/test_mail.py \
		tests/unit/gateway/test_line.py tests/unit/gateway/test_damage.py tests/unit/utility/households/test_green_button.py
	EXAMPLES=1000 $(BIN)/python -m pytest -q -n 2 -m "hypothesis and not real" tests/unit
	SIZES=all $(BIN)/python -m pytest -q -m real tests/browser/test_pages.py
	PACKAGES=all BENCHMARKS=all RESTORES=all $(BIN)/python -m pytest -q tests/integration/test_restore_to_a_minute.py tests/integration/test_debian.py tests/integration/test_benchmarks.py
	$(BIN)/python -m harness.mutants
	$(BIN)/python -m harness.real.other_python
	$(BIN)/python -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet pip-audit
	.venv/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

bench: install ## run all benchmarks, about 80 minutes on an idle machine, then write docs/reference/benchmarks.md; BENCH=store,codec
	$(BIN)/python -m benchmarks --keep $(BENCH)
	$(BIN)/python -m harness.docs.generate

READINGS := $(wildcard scenarios/files/readings/*.toml)
SCENARIOS := normal heatwave storm storm-hard change cloudy winter $(READINGS)

scenarios: install ## run every scenario for the whole town with every policy, about 20 minutes; results in scenario-results
	for name in $(SCENARIOS); do $(BIN)/commonwatt scenario run $$name --out scenario-results \
		--policy spec --policy aces --policy rangers --policy planner || exit 1; done

town-month: install ## a month of the whole town, from a scenario to issued bills, about 14 minutes; SCENARIO=storm
	$(BIN)/python -m harness.town_month --scenario $(or $(SCENARIO),normal)

takeover: install ## take a controller away from 20 towns of real processes in network namespaces, as root, a quarter of an hour
	$(BIN)/python -m harness.clique.real

past: install ## make the demonstration's past anew, about 8 minutes on an idle machine; the same bytes each time
	$(BIN)/python -m harness.past

docs: install ## write the generated pages anew
	$(BIN)/python -m harness.docs.generate

dashboards: install ## write Grafana's dashboards anew
	$(BIN)/python -m grafana.generator

dashboard-types: install ## check the dashboards by Grafana's own types; needs node, npm and the network
	$(BIN)/python -m harness.real.grafana_types

deb: ## make the Debian packages for amd64 and arm64 in dist; needs dpkg-deb and the network, no root
	$(PYTHON) -m deploy.debian

constraints: install ## pin the installed versions
	$(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check > constraints.txt

clean: ## remove the environment and the tools' caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
