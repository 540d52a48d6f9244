"""`step_ros train`: from a recipe to a bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def train(
    recipe: Annotated[Path, typer.Argument(help='Recipe file, see config/training/.')],
    output: Annotated[Path, typer.Option(help='Folder of the bundle to write.')],
) -> None:
    """Train a model on the synthetic tabletop and write it as a bundle with its model card."""
    from step_ros.training.recipe import RecipeError, load_recipe
    from step_ros.training.tabletop_model import make_tabletop_model

    console = Console()
    try:
        loaded = load_recipe(recipe)
    except RecipeError as error:
        console.print(f'[red]{error}')
        raise typer.Exit(1) from error
    bundle = make_tabletop_model(loaded, output)
    for run in ('step', 'step_reversed', 'without_positions'):
        console.print(f'{run}: action, clips: {bundle.spec.metrics[run]["action"]["clips"]}')
    console.print(f'wrote {bundle.model_id} to {output}')
