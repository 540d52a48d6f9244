"""Reading ablation files, and finding the datasets that one without a recipe can be run on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from step_ros.resources import share_directory
from step_ros.training.ablation import AblationSpec
from step_ros.training.dataset_recipe import DatasetRecipe
from step_ros.training.published_figures import Dataset
from step_ros.training.recipe_file import RecipeError, load_recipe, read_yaml


def load_ablation(
    path: Path, changes: Mapping[str, Any] | None = None, *, recipe: Path | None = None
) -> AblationSpec:
    """Read an ablation file.

    Args:
        path: The file.
        changes: Values of `recipe.data` that replace the file's: where one's copy of the data is.
        recipe: A training recipe for a dataset, which replaces the file's own.

    Raises:
        RecipeError: It is missing, unreadable or breaks the schema; says which key and why.
    """
    content = read_yaml(path)
    if recipe is not None and isinstance(content, dict):
        content = {**content, **_from_recipe(recipe, content)}
    elif isinstance(content, dict) and 'recipe' not in content:
        raise RecipeError(
            f'{path}: recipe: the file has none; name a training recipe (--recipe), as '
            'config/training/ikea-asm.yaml'
        )
    if changes and isinstance(content, dict) and isinstance(content.get('recipe'), dict):
        content['recipe']['data'] = {**content['recipe'].get('data', {}), **changes}
    try:
        return AblationSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(part) for part in first['loc']) or 'file'
        found = '' if first['type'] == 'value_error' else f'; found {first["input"]!r}'
        raise RecipeError(f'{path}: {key}: {first["msg"]}{found}') from error


def has_recipe(path: Path) -> bool:
    """Return whether an ablation file says what it is run on.

    Raises:
        RecipeError: It is missing or unreadable.
    """
    content = read_yaml(path)
    return not isinstance(content, dict) or 'recipe' in content


def papers_recipes(path: Path) -> list[Path]:
    """Return the shipped recipes of the papers' datasets that an ablation file goes with.

    Raises:
        RecipeError: The file is missing or unreadable.
    """
    wanted = read_yaml(path).get('datasets') or get_args(Dataset)
    found = []
    for recipe in sorted((share_directory() / 'config' / 'training').glob('*.yaml')):
        loaded = load_recipe(recipe)
        if isinstance(loaded, DatasetRecipe) and loaded.data.dataset in wanted:
            found.append(recipe)
    return found


def data_root(recipe: Path) -> Path:
    """Return the folder where a dataset's recipe looks for it.

    Raises:
        RecipeError: It is missing, unreadable or no recipe for a dataset.
    """
    return _dataset_recipe(recipe).data.root


def _dataset_recipe(path: Path) -> DatasetRecipe:
    found = load_recipe(path)
    if not isinstance(found, DatasetRecipe):
        raise RecipeError(f'{path}: data: expected a recipe for a dataset')
    return found


def _from_recipe(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Put a training recipe into an ablation, which is then about that recipe's dataset."""
    found = _dataset_recipe(path)
    datasets = content.get('datasets') or (found.data.dataset,)
    if found.data.dataset not in datasets:
        raise RecipeError(
            f'{path}: data.dataset: {found.data.dataset!r}; the ablation is about '
            f'{", ".join(datasets)}'
        )
    recipe = found.model_dump(mode='json', exclude={'grid'})
    recipe['data']['options'] |= content.get('options') or {}
    return {'name': f'{content.get("name")}-{found.name}', 'recipe': recipe}
