# Everything a newcomer needs; each target sets the machine up first if it has not been done.
.PHONY: setup demo demo-cell test check bench soak docs model results clean
PYTHON ?=
export PYTHON

setup: ; @bash scripts/setup.sh

demo: setup ; @.venv/bin/step_ros demo

# Two robots that act on what they see; they print what they do, and why.
demo-cell: setup ; @.venv/bin/python examples/demo_cell.py

test: setup ; @.venv/bin/python -m pytest

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: setup
	@.venv/bin/step_ros bench stream --json demo_output/bench_stream.json
	@.venv/bin/step_ros bench node --cameras 1 --cameras 4 --json demo_output/bench_node.json
	@.venv/bin/step_ros bench tasks --json demo_output/bench_tasks.json --plot demo_output/bench_tasks.png

# Ten minutes of restarts, gaps and jumps; every image accounted for.
soak: setup ; @.venv/bin/step_ros bench soak --json demo_output/bench_soak.json

docs: setup
	@PYTHONPATH=. .venv/bin/python scripts/write_parameter_tables.py
	@.venv/bin/python scripts/write_heads_document.py
	@.venv/bin/python scripts/write_attention_figure.py
	@.venv/bin/step_ros complexity --plot docs/images/complexity.png

model: setup ; @.venv/bin/step_ros train config/training/tabletop-tiny.yaml --output models/tabletop-tiny

# The papers' tables on the synthetic tabletop; stopped and called again, it goes on.
results: setup
	@.venv/bin/step_ros data render runs/tabletop --train 120 --val 10 --test 30
	@.venv/bin/step_ros ablate config/ablations/tabletop.yaml --output runs/results --report docs/results.md

clean: ; rm -rf .venv build install log demo_output .pytest_cache .mypy_cache .ruff_cache .hypothesis
