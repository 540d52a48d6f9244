# Everything a newcomer needs; each target sets the machine up first if that has not been done.
.PHONY: setup setup-demo demo demo-cell test test-fast test-all coverage check bench soak \
	docs docs-site model results clean
PYTHON ?=
export PYTHON
PYTEST = .venv/bin/python -m pytest
# One file at a time on each core: its fixtures are made once, and every worker has a ROS domain. In the
# order of the folders: the files with few but long tests would otherwise come last, on one core.
PARALLEL = -n auto --dist loadfile --no-loadscope-reorder

# What the demo needs, and everything.
setup-demo: ; @bash scripts/setup.sh demo
setup: ; @bash scripts/setup.sh test

demo: setup-demo ; @.venv/bin/step_ros demo

# Two robots that act on what they see; they print what they do, and why.
demo-cell: setup ; @.venv/bin/python examples/demo_cell.py

# Everything but research-like checks.
test: setup ; @$(PYTEST) $(PARALLEL) -m "not research"

# No ROS, no training: under two minutes.
test-fast: setup ; @$(PYTEST) $(PARALLEL) -m "not research and not ros and not slow and not gpu"

# Everything there is, as CI runs it.
test-all: setup ; @$(PYTEST) $(PARALLEL)

coverage: setup
	@$(PYTEST) $(PARALLEL) -m "not research" --cov --cov-report=term --cov-report=html

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: setup
	@.venv/bin/step_ros bench stream --json demo_output/bench_stream.json
	@.venv/bin/step_ros bench node --cameras 1 --cameras 4 --json demo_output/bench_node.json
	@.venv/bin/step_ros bench tasks --json demo_output/bench_tasks.json --plot demo_output/bench_tasks.png

# Ten minutes of restarts, gaps and jumps; every image accounted for.
soak: setup ; @.venv/bin/step_ros bench soak --json demo_output/bench_soak.json

# The pages and tables that are generated from the code.
docs: setup
	@PYTHONPATH=. .venv/bin/python scripts/write_parameter_tables.py
	@PYTHONPATH=. .venv/bin/python scripts/write_recipe_tables.py
	@PYTHONPATH=. .venv/bin/python scripts/write_heads_document.py
	@PYTHONPATH=. .venv/bin/python scripts/write_attention_figure.py
	@.venv/bin/step_ros complexity --plot docs/images/complexity.png

# The documentation site, with the API reference: site/index.html.
docs-site: setup ; @NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet && echo site/index.html

model: setup ; @.venv/bin/step_ros train config/training/tabletop-tiny.yaml --output models/tabletop-tiny

# The papers' tables on the synthetic tabletop; stopped and called again, it goes on.
results: setup
	@.venv/bin/step_ros data render runs/tabletop --train 120 --val 10 --test 30
	@.venv/bin/step_ros ablate config/ablations/tabletop.yaml --output runs/results --report docs/results.md

clean:
	rm -rf .venv build install log site demo_output htmlcov .coverage* .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis
