"""Reading a recipe file: for the tabletop, or, when it says `data`, for a dataset."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from step_ros.training.dataset_recipe import DatasetRecipe
from step_ros.training.recipe import Recipe


class RecipeError(ValueError):
    """A recipe file is missing, unreadable or breaks the schema."""


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        RecipeError: It is missing or unreadable.
    """
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f'{path}: not readable: {error}') from error


def load_recipe(path: Path) -> Recipe | DatasetRecipe:
    """Read a recipe.

    Raises:
        RecipeError: It is missing, unreadable or breaks the schema; says which key and why.
    """
    content = read_yaml(path)
    kind = DatasetRecipe if isinstance(content, dict) and 'data' in content else Recipe
    try:
        recipe = kind.model_validate(content)
        if isinstance(recipe, DatasetRecipe):
            recipe.runs()  # what a run of the grid changes is checked too
        return recipe
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(part) for part in first['loc'])
        raise RecipeError(f'{path}: {key}: {first["msg"]}; found {first["input"]!r}') from error
