# SPDX-License-Identifier: Apache-2.0
"""`step_ros train`: from a recipe to a bundle."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from step_ros.cli.common import open_console, report_errors
from step_ros.cli.outputs import output_bundle


def train(
    recipe: Annotated[Path, typer.Argument(help='Recipe file, see docs/recipes.md.')],
    output: Annotated[
        Path, typer.Option(callback=output_bundle, help='Folder of the bundle to write.')
    ],
) -> None:
    """Train heads as a recipe says, and write them as a bundle.

    A stopped run continues when it is started again. On several devices:
    torchrun --nproc-per-node N -m step_ros.cli train RECIPE --output FOLDER
    """
    from torch.utils.tensorboard import SummaryWriter

    from step_ros.encoders.base import choose_device
    from step_ros.training.config import load_recipe
    from step_ros.training.distributed import close_distributed, init_distributed
    from step_ros.training.train import train_bundle

    console = open_console()
    with report_errors(console):
        loaded = load_recipe(recipe)
        distributed = init_distributed(choose_device('auto'))
        log = output.with_name(output.name + '.tensorboard')
        with SummaryWriter(str(log)) if distributed.is_main_process else nullcontext() as writer:
            bundle = train_bundle(loaded, output, log=writer, distributed=distributed)
        close_distributed()
        if not distributed.is_main_process:
            return
        console.print(f'losses: tensorboard --logdir {log}', soft_wrap=True)
    for order, tasks in bundle.spec.metrics['test'].items():
        for task, found in tasks.items():
            shown = {key: value for key, value in found.items() if key != 'labels'}
            console.print(f'test, frames {order}: {task}: {shown}', soft_wrap=True)
    console.print(f'wrote {bundle.model_id} to {output}', soft_wrap=True)
