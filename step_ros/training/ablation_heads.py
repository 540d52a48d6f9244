"""The heads of an ablation's runs: what they are, what they see of a frame, what they cost."""

from collections.abc import Sequence

import torch

from step_ros.model.backbone import Backbone
from step_ros.model.bundle import create_heads
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.complexity import count_head, on_meta
from step_ros.model.head import Head
from step_ros.model.token_grid import TokenAverage
from step_ros.training.ablation import AblationSpec, RunSpec
from step_ros.training.fit import FitError, Run


def average_of(run: RunSpec, backbone: Backbone) -> TokenAverage:
    """Return how a run's heads get their patch tokens from those that the backbone gives.

    Raises:
        ValueError: The run's token grid does not divide the backbone's.
    """
    return TokenAverage(
        given=backbone.token_grid, token_grid=run.token_grid or backbone.token_grid
    )


def check_token_grids(spec: AblationSpec, backbone: Backbone) -> None:
    """Refuse token grids that the backbone's tokens cannot be averaged onto.

    Raises:
        FitError: There is one; names the row and both grids.
    """
    for name, table in spec.tables.items():
        for key, row in table.rows.items():
            try:
                average_of(spec.run(table, row), backbone)
            except ValueError as error:
                raise FitError(f'tables.{name}.rows.{key}.token_grid: {error}') from error


def build_runs(
    specs: Sequence[RunSpec], tasks: Sequence[TaskSpec], backbone: Backbone, *, seed: int
) -> dict[str, Run]:
    """Make the heads of runs; each run's start depends on the seed and itself alone.

    Args:
        specs: The runs.
        tasks: All tasks of the data.
        backbone: Says what the tokens are.
        seed: Decides where the heads start.

    Raises:
        FitError: A run asks for a task that the data does not have.
    """
    runs = {}
    for spec in specs:
        torch.manual_seed(seed)
        runs[spec.key] = Run(
            heads=_heads(spec, tasks, backbone),
            how=spec.head,
            average=average_of(spec, backbone),
        )
    return runs


def count_run(run: RunSpec, tasks: Sequence[TaskSpec], backbone: Backbone) -> float:
    """Return the multiply-adds of a run's heads on one window, in units of 1e9."""
    patches = average_of(run, backbone).tokens
    heads: dict[str, Head] = on_meta(_heads, run, tasks, backbone)
    return sum(count_head(head, patches=patches).full for head in heads.values())


def _heads(run: RunSpec, tasks: Sequence[TaskSpec], backbone: Backbone) -> dict[str, Head]:
    known = {task.name: task for task in tasks}
    for name in run.tasks:
        if name not in known:
            raise FitError(f'{name!r} is no task of the data; there are {", ".join(known)}')
    return create_heads(
        run.head,
        [known[name] for name in run.tasks],
        width=backbone.width,
        frames=run.frames,
        tokens=average_of(run, backbone).tokens,
    )
