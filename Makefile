# Everything a newcomer needs: `make demo`, `make test`, `make clean`. `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first Python that runs, is new enough and can make a virtual environment; a shim that exists but fails is passed over.
FIND_PYTHON = for p in python3.13 python3.12 python3; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v "$$p"; exit 0; }; done; \
	echo "No usable Python: need python3 >= 3.11 with the venv module (on Debian: apt-get install python3-venv)." >&2; exit 1

BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --require-hashes
# What pip says is much; a line for each package is progress enough.
PROGRESS = | sed -n -u -E 's/^(Collecting|Installing|Successfully) ([^ ]*).*/  \1 \2/p'

# Four on two cores: the tests wait half of the time. Each worker takes a group of tests at a time (tests/conftest.py).
WORKERS = --numprocesses 4 --no-loadscope-reorder

.PHONY: help
help: ## List the targets
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

.venv/bin/python:
	@case "$$PWD" in *["\"'$$%,:;#\\\`{}*?!&|<>^"[]* | *]*) echo "The path of this clone has a character that supervisord, Ansible or a shell" \
		"would read as something else (a quote, %, $$ and the like). Nothing was made. Move the clone to another path." >&2; exit 1 ;; esac
	@python="$$($(FIND_PYTHON))"; echo "Making .venv with $$python ($$("$$python" --version))"; "$$python" -m venv .venv

.venv/.runtime: requirements.txt | .venv/bin/python
	@echo "Installing what the toolkit runs on (about a minute)"
	@$(PIP_INSTALL) -r requirements.txt $(PROGRESS)
	@touch $@

.venv/.tests: requirements-dev.txt .venv/.runtime
	@echo "Installing what the tests need"
	@$(PIP_INSTALL) -r requirements-dev.txt $(PROGRESS)
	@touch $@

.PHONY: venv
venv: .venv/.runtime ## Make .venv, from which ansible-playbook runs

.PHONY: demo
demo: .venv/.runtime ## Deploy to the embedded cloud, let transactions flow, reconcile and verify
	@. $(BIN)/activate; ansible-playbook site.yml reconcile.yml verify.yml -e reconcile_resend_lost=true

.PHONY: teardown
teardown: .venv/.runtime ## Remove what the demo made
	@. $(BIN)/activate; ansible-playbook teardown.yml

.PHONY: lint
lint: .venv/.tests ## Run the linters and the type checks
	@. $(BIN)/activate; set -x; ruff check .; ruff format --check .; yamllint --strict .; mypy; ansible-lint --offline -q

.PHONY: test
test: .venv/.tests ## Run the linters and all the tests, side by side
	@$(MAKE) --no-print-directory --jobs 2 lint tests

.PHONY: tests
tests: .venv/.tests
	@. $(BIN)/activate; python -m pytest $(WORKERS) tests/playbooks tests/unit

.PHONY: test-unit
test-unit: .venv/.tests ## Run the unit tests that start no cloud and no producer, for the daily round
	@. $(BIN)/activate; python -m pytest $(WORKERS) -m 'not slow' tests/unit

.PHONY: rehearsal
rehearsal: .venv/.tests ## Run the plays, and sabotages, against a systemd host reached over SSH (needs root)
	@tests/rehearsal/guest check
	@. $(BIN)/activate; python -m pytest tests/rehearsal

.PHONY: molecule
molecule: .venv/.tests ## Run the tests of the producer's role on such a host (needs root)
	@tests/rehearsal/guest check
	@. $(BIN)/activate; cd roles/producer_service; molecule test

.PHONY: chaos
chaos: .venv/.tests ## Break the deployed pipeline in every known way, and 20 random mixes; writes docs/chaos.md (three quarters of an hour)
	@. $(BIN)/activate; CHAOS_REPORT=1 python -m pytest -v --timeout=1200 --session-timeout=7200 tests/chaos

.PHONY: chaos-short
chaos-short: .venv/.tests ## The same in brief, two mixes, and the plays while AWS fails now and then (some minutes)
	@. $(BIN)/activate; CHAOS_SHORT=1 python -m pytest -v tests/chaos/test_chaos.py tests/chaos/test_control_plane.py

.PHONY: bench
bench: .venv/.tests ## Measure beside peers, five rounds of each; writes docs/performance.md (an hour, on a machine that does nothing else)
	@. $(BIN)/activate; python -m bench

.PHONY: lock
lock: .venv/.tests ## Write the requirements files anew from the .in files
	@for f in requirements requirements-dev producer_src/requirements; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate $$f.in -o $$f.txt; done

.PHONY: clean
clean: ## Stop what runs and remove what was made
	@for directory in .local/guests/*/; do [ ! -d "$$directory" ] || tests/rehearsal/guest stop "$$(basename "$$directory")"; done
	@roles/embedded_cloud/files/supervised end-below .local
	@for config in .local/supervisor/supervisord.conf .local/*/supervisor/supervisord.conf; do \
		[ ! -e "$$config" ] || rm -rf "$$(dirname "$$(sed -n 's/^file=//p' "$$config")")"; \
	done
	@rm -rf .local .venv .ansible .hypothesis .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
