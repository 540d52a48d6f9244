"""`step_ros train`: from a recipe to a bundle."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from step_ros.cli.common import said_in_words


def train(
    recipe: Annotated[Path, typer.Argument(help='Recipe file, see config/training/.')],
    output: Annotated[Path, typer.Option(help='Folder of the bundle to write.')],
) -> None:
    """Train a model on a dataset, or on the synthetic tabletop, and write it as a bundle.

    A run that was stopped goes on where it was when it is started again. On several devices:
    torchrun --nproc-per-node N -m step_ros.cli train RECIPE --output FOLDER
    """
    from torch.utils.tensorboard import SummaryWriter

    from step_ros.encoders.base import choose_device
    from step_ros.training.config import DatasetRecipe, load_recipe
    from step_ros.training.distributed import close_distributed, init_distributed
    from step_ros.training.tabletop_model import make_tabletop_model
    from step_ros.training.train import train_on_dataset

    console = Console()
    with said_in_words(console):
        loaded = load_recipe(recipe)
        if isinstance(loaded, DatasetRecipe):
            team = init_distributed(choose_device('auto'))
            log = output.with_name(output.name + '.tensorboard')
            with SummaryWriter(str(log)) if team.is_main_process else nullcontext() as writer:
                bundle = train_on_dataset(loaded, output, log=writer, team=team)
            close_distributed()
            if not team.is_main_process:
                return
            console.print(f'losses: tensorboard --logdir {log}', soft_wrap=True)
        else:
            bundle = make_tabletop_model(loaded, output)
    metrics = bundle.spec.metrics
    if isinstance(loaded, DatasetRecipe):
        for order, tasks in metrics['test'].items():
            for task, found in tasks.items():
                shown = {key: value for key, value in found.items() if key != 'labels'}
                console.print(f'test, frames {order}: {task}: {shown}', soft_wrap=True)
    else:
        for run in ('step', 'step_reversed', 'without_positions'):
            console.print(f'{run}: action, clips: {metrics[run]["action"]["clips"]}')
    console.print(f'wrote {bundle.model_id} to {output}', soft_wrap=True)
