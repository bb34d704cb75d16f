# Everything that is done to this project, from nothing: `make help`.
# `demo` and `test` make the environment that they need, and make it anew when its lists change.

PYTHON ?= python3
VENV := .venv
HOSTS := .venv-hosts
BIN := $(VENV)/bin
WHEEL_VENV := build/wheel-venv
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# `make up` sets the password for Grafana; the other commands need none.
COMPOSE := GRAFANA_ADMIN_PASSWORD="$${GRAFANA_ADMIN_PASSWORD:-unused}" docker compose
CHECKED := middleware integrations reference_app loadgen observability bench docs tests
export PYTHONUNBUFFERED := 1

# A line in a .pth file adds a folder, and none of the .pth files in it: not the one of the checkout.
define BEHIND
import sysconfig, pathlib
here = pathlib.Path(sysconfig.get_path("purelib"))
(here / "behind.pth").write_text(str(pathlib.Path("$(CURDIR)/$(VENV)") / here.relative_to("$(CURDIR)/$(WHEEL_VENV)")))
endef
export BEHIND

.DEFAULT_GOAL := help
.PHONY: help demo serve stack up down load clean-metrics test faults check hosts docs bench soak models wheel wheel-test clean

help: ## say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

demo: $(VENV)/.demo ## serve three models, send them Zipf traffic, print what the cache did (about 2 minutes)
	@$(BIN)/python -m reference_app.demo

serve: $(VENV)/.demo ## serve the reference app on http://127.0.0.1:8000
	@$(BIN)/python -m reference_app

test: $(VENV)/.test $(VENV)/.system ## run the tests but `faults`, with coverage (100 % of memoserve, 90 % of the rest)
	$(BIN)/python -m pytest -m 'not faults' --cov --cov-report= $(TESTS)
	$(BIN)/coverage report --include='middleware/*' --fail-under=100
	$(BIN)/coverage report --include='integrations/*,reference_app/*,loadgen/*,observability/*' --fail-under=90

faults: $(VENV)/.test $(VENV)/.system ## run the tests that break servers: Redis, Cluster, Sentinels, replicas, workers
	$(BIN)/python -m pytest -m faults $(TESTS)

check: $(VENV)/.test ## lint, formatting and types
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy $(CHECKED)
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes memoserve --ignoreexternal
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes memoserve_integrations --ignoreexternal

docs: $(VENV)/.test ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

hosts: $(HOSTS)/.installed $(VENV)/.system ## test BentoML, LitServe and Ray Serve, whose packages have an environment of their own
	CONTRACT_HOSTS="bentoml litserve ray_serve" BENTOML_DO_NOT_TRACK=True RAY_USAGE_STATS_ENABLED=0 \
		$(HOSTS)/bin/python -m pytest -o filterwarnings=ignore::DeprecationWarning \
		tests/integrations/test_contract.py tests/integrations/replicas.py

bench: $(VENV)/.test ## what the cache costs, side by side with the bare app
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/telemetry.py
	$(BIN)/python bench/scrape.py
	$(BIN)/python bench/truth.py
	$(BIN)/python bench/advise.py
	$(BIN)/python bench/json_parsers.py
	$(BIN)/python bench/limits.py
	$(BIN)/python bench/throughput.py
	$(BIN)/python bench/features.py
	$(BIN)/python -m bench.redis_hits
	$(BIN)/python -m bench.redis_faults
	$(BIN)/python -m bench.generator
	$(BIN)/python bench/overload.py
	PYTHONPATH=. $(BIN)/python bench/batching.py
	$(BIN)/python -m bench.busy_models

stack: $(VENV)/.demo ## serve what docker-compose.yml describes, as processes: nginx, 2 replicas, redis, prometheus
	@$(BIN)/python -m reference_app.stack

up: ## start the whole stack with Docker Compose: http://localhost:8000, :9090, :3002
	@GRAFANA_ADMIN_PASSWORD="$${GRAFANA_ADMIN_PASSWORD:-$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe())')}" \
		docker compose up --build --detach --wait

down: ## stop it; the models that were downloaded stay
	@$(COMPOSE) down

load: ## send the running stack Zipf traffic and judge the cache
	@$(COMPOSE) run --rm loadgen

clean-metrics: ## empty the running stack's cache, and start its metrics anew
	@$(COMPOSE) exec redis sh -c 'REDISCLI_AUTH="$${REDIS_PASSWORD:-memoserve}" redis-cli flushall'
	@$(COMPOSE) stop app prometheus
	@$(COMPOSE) rm --force prometheus
	@docker volume rm --force memoserve_prometheus
	@$(COMPOSE) up --detach --wait

soak: $(VENV)/.test $(VENV)/.system ## twenty minutes of load on a service whose Redis has a fault every thirty seconds
	$(BIN)/python -m tests.soak

models: $(VENV)/.demo ## train the bundled models anew (about 30 minutes) and measure them
	$(BIN)/python -m reference_app.training all
	$(BIN)/python -m reference_app.training evaluate

wheel: $(VENV)/.test ## build sdist and, from it, the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

wheel-test: wheel $(VENV)/.system ## run the tests against the wheel, in an environment of its own
	rm -rf $(WHEEL_VENV)
	$(PYTHON) -m venv $(WHEEL_VENV)
	@echo "the wheel and what it requires, nothing else"
	$(WHEEL_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt dist/*.whl
	$(WHEEL_VENV)/bin/python -c "from memoserve import CacheMiddleware, Rule; CacheMiddleware(print, rules=[Rule('/v1/{model}')])"
	@echo "the same, and behind it the packages of $(VENV), its checkout of memoserve left out"
	$(WHEEL_VENV)/bin/python -c "$$BEHIND"
	MEMOSERVE_FROM_WHEEL=1 $(WHEEL_VENV)/bin/python -m pytest -m 'not faults' $(TESTS)

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) $(HOSTS) $(WHEEL_VENV) dist site .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The environments. Both install the project itself in place, so edits count at once.

$(VENV)/bin/python:
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("memoserve needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt pip

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing what the demo needs, PyTorch among it: minutes the first time, nothing after"
	@$(PIP) install --progress-bar on --constraint constraints.txt --editable . --group reference-app --group loadgen
	@$(BIN)/python -m compileall -q middleware integrations loadgen reference_app
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "installing what the tests need"
	@$(PIP) install --progress-bar on --constraint constraints.txt --editable . --group test
	@touch $@

$(HOSTS)/.installed: pyproject.toml tests/integrations/hosts-constraints.txt
	@echo "installing BentoML, LitServe and Ray"
	@$(PYTHON) -m venv $(HOSTS)
	@$(HOSTS)/bin/python -m pip --disable-pip-version-check --quiet install \
		--constraint tests/integrations/hosts-constraints.txt pip
	@$(HOSTS)/bin/python -m pip --quiet install --progress-bar on \
		--constraint tests/integrations/hosts-constraints.txt --editable . --group hosts
	@touch $@

$(VENV)/.system: tests/system-packages.sh | $(VENV)/bin/python
	@tests/system-packages.sh
	@touch $@
