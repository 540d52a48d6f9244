"""The times of several tasks as a table and a plot."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from step_ros.stream.benchmark_report import table
from step_ros.training.tasks_benchmark import TasksTimes

COLUMNS = ('tasks', 'st_adapter_ms', 'step_ms', 'stream_ms', 'ratio')
_MARKERS = {
    'ST-Adapter, a pass for each task': 'o',
    'STEP, one pass': 's',
    'STEP, streaming: one new frame': 'D',
}


def tasks_table(rows: Sequence[TasksTimes]) -> str:
    """Write the rows as a Markdown table."""
    return table(
        COLUMNS,
        [
            [
                str(row.tasks),
                *(f'{value:.1f}' for value in (row.st_adapter_ms, row.step_ms, row.stream_ms)),
                f'{row.ratio:.1f}',
            ]
            for row in rows
        ],
    )


def plot_tasks(path: Path, rows: Sequence[TasksTimes], *, title: str) -> None:
    """Draw time against the number of tasks, as Fig. 4 of the STEP paper draws operations.

    Args:
        path: Image file to write; its folder is made.
        rows: What was measured.
        title: What it was measured on.
    """
    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    tasks = [row.tasks for row in rows]
    columns = zip(*((row.st_adapter_ms, row.step_ms, row.stream_ms) for row in rows), strict=True)
    for (label, marker), times_ms in zip(_MARKERS.items(), columns, strict=True):
        axes.plot(tasks, [ms / 1e3 for ms in times_ms], marker=marker, label=label)
    axes.set_title(title)
    axes.set_xlabel('tasks')
    axes.set_xticks(tasks)
    axes.set_ylabel('seconds for an answer of every task')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
