# SPDX-License-Identifier: Apache-2.0
"""The schema of `config/ablations/*.yaml`: a grid of heads, in the tables of its report.

A row of a table is a run. A file without a training recipe can be run on several datasets;
`papers_recipes` returns the recipes that fit it, and `load_ablation` combines the two.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from step_ros.experiments.paper_figures import Dataset
from step_ros.model.heads.registry import consumed_tokens, head_entry
from step_ros.resources import share_directory
from step_ros.schema import StrictModel
from step_ros.training.config import (
    HeadRecipe,
    Recipe,
    RecipeError,
    TokenGrid,
    load_recipe,
    read_yaml,
)
from step_ros.training.feature_cache.spec import CacheType
from step_ros.training.predict import Order

Metric = Literal[
    'parameters',
    'gflops',
    'clips',
    'top1',
    'top5',
    'balanced',
    'symmetric_top1',
    'within_pair',
    'to_counterpart',
    'other_top1',
    'common',
    'rare',
    'calibration_error',
]


class Column(StrictModel):
    """A column of a table, which holds one metric."""

    title: str = Field(description='title of the column')
    metric: Metric = Field(description='a metric of `task_metrics`, `parameters` or `gflops`')
    order: Order = Field(default='correct', description='order of the frames at test time')
    view: Literal['all', 'trained', 'unseen'] = Field(
        default='all', description='test clips: of all views, of trained or of unseen ones'
    )
    task: str | None = Field(default=None, description="task of the metric; none: the table's")
    published: str | None = Field(default=None, description="metric of the papers' figures")


class Row(StrictModel):
    """A run, given as its differences from the ablation's recipe.

    Rows with the same settings are one run, also across tables.
    """

    title: str = Field(description='title of the row')
    heads: dict[str, Any] = Field(
        default_factory=dict, description='values that replace those of `heads`'
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description='head options, in addition to `heads.options`'
    )
    frames: int | None = Field(
        default=None, ge=1, description='fewer frames, spread over the window'
    )
    token_grid: TokenGrid | None = Field(
        default=None, description='rows and columns onto which patch tokens are averaged'
    )
    share: float = Field(
        default=1.0, gt=0, le=1, description='share of the training clips of a label'
    )
    views: tuple[str, ...] = Field(default=(), description='views to train on; none: all')
    tasks: tuple[str, ...] = Field(default=(), description="tasks to fit; none: the table's task")
    tokens: CacheType | None = Field(
        default=None, description='read the cache as if it had this type; none: as it is'
    )
    published: str | None = Field(default=None, description="row of the papers' figures")


class TableSpec(StrictModel):
    """A table of the report."""

    title: str = Field(description='title of the table')
    source: str = Field(default='', description='table of the papers that it follows')
    published: tuple[str, ...] = Field(
        default=(), description='tables with the papers\' figures, as "step-long/Table 11"'
    )
    task: str = Field(description='task that the table is about')
    columns: tuple[Column, ...] = Field(min_length=1, description='the metrics')
    rows: dict[str, Row] = Field(min_length=1, description='the runs, by name')
    note: str = Field(default='', description='text below the table')


class Side(StrictModel):
    """One side of a comparison: a figure of a table."""

    table: str = Field(description='name of the table')
    row: str = Field(description='name of the row')
    column: str = Field(description='title of the column')


class Finding(StrictModel):
    """A finding of the papers, as a comparison of two figures of this report."""

    says: str = Field(description='the finding, as a sentence')
    source: str = Field(description='place in the papers')
    figure: Side = Field(description='the figure that should be larger, or equal')
    against: Side = Field(description='the figure it is compared with')
    at_least: float | None = Field(
        default=None,
        description='least difference, `figure` minus `against`',
        json_schema_extra={'unit': 'percentage points'},
    )
    equal: bool = Field(default=False, description='both figures must be the same')

    @model_validator(mode='after')
    def _check(self) -> 'Finding':
        if (self.at_least is None) != self.equal:
            raise ValueError('give either at_least or equal')
        return self


class RunSpec(StrictModel):
    """Everything that determines a run, in addition to the ablation's recipe."""

    head: HeadRecipe
    frames: int
    share: float
    views: tuple[str, ...]
    tasks: tuple[str, ...]
    tokens: CacheType | None = None
    token_grid: TokenGrid | None = None

    @property
    def key(self) -> str:
        """The first digits of a digest of all fields."""
        # Unset fields stay out of the digest, so that a new field does not change the keys of
        # earlier runs.
        optional = ('tokens', 'token_grid')
        unset = {field for field in optional if getattr(self, field) is None}
        content = self.model_dump_json(exclude=unset)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def data(self) -> tuple[object, ...]:
        """Fields that determine the training windows: runs with the same values share a pass."""
        return self.share, self.views, self.tokens, self.head.epochs, self.head.batch


class AblationSpec(StrictModel):
    """The content of an ablation file."""

    name: str = Field(description='name of the ablation')
    title: str = Field(description='title of the report')
    intro: str = Field(default='', description='text at the beginning of the report')
    recipe: Recipe = Field(
        description='the recipe that all rows start from; a file without one needs --recipe'
    )
    datasets: tuple[str, ...] = Field(
        default=(), description='datasets for a file without a recipe; none: any'
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description="options of the dataset's reader, which replace those of the recipe",
    )
    frames: int | None = Field(
        default=None,
        ge=1,
        description="frames of a head's window, if the row gives none; none: all",
    )
    tables: dict[str, TableSpec] = Field(min_length=1, description='the tables, by name')
    findings: tuple[Finding, ...] = Field(
        default=(), description="the papers' findings that the report checks"
    )
    pictured: tuple[str, ...] = Field(
        default=(), description='"TABLE/ROW" of the runs in the confusion and t-SNE plots'
    )

    @model_validator(mode='after')
    def _check(self) -> 'AblationSpec':
        for finding in self.findings:
            for side in (finding.figure, finding.against):
                self.row(f'{side.table}/{side.row}')
                titles = [column.title for column in self.tables[side.table].columns]
                if side.column not in titles:
                    raise ValueError(
                        f'finding {finding.says!r}: table {side.table!r} has no column '
                        f'{side.column!r}; choose among {", ".join(titles)}'
                    )
        for place in self.pictured:
            self.row(place)
        for name, table in self.tables.items():
            for key, row in table.rows.items():
                run = self.run(table, row)
                try:
                    consumed_tokens(run.head.name, **run.head.options)
                except ValueError as error:
                    raise ValueError(f'tables.{name}.rows.{key}: {error}') from error
                frames = run.frames
                if self.recipe.sampling.frames % frames:
                    raise ValueError(
                        f'tables.{name}.rows.{key}: frames={frames} does not divide '
                        f'sampling.frames={self.recipe.sampling.frames}'
                    )
        return self

    def row(self, place: str) -> Row:
        """Return the row at "TABLE/ROW".

        Raises:
            ValueError: This file has no such row.
        """
        table, _, row = place.partition('/')
        if table not in self.tables or row not in self.tables[table].rows:
            raise ValueError(f'{place!r}: no such row; expected TABLE/ROW of this file')
        return self.tables[table].rows[row]

    def head(self, row: Row) -> HeadRecipe:
        """Return the name, the options and the optimisation of a row's heads."""
        base = self.recipe.heads.model_dump()
        # The recipe's options apply to every head that has options of these names.
        known = head_entry(row.heads.get('name', base['name'])).options
        shared = {key: value for key, value in base['options'].items() if key in known}
        options = {**shared, **row.options}
        return HeadRecipe.model_validate({**base, **row.heads, 'options': options})

    def run(self, table: TableSpec, row: Row) -> 'RunSpec':
        """Return the run of a row."""
        return RunSpec(
            head=self.head(row),
            frames=row.frames or self.frames or self.recipe.sampling.frames,
            share=row.share,
            views=row.views,
            tasks=row.tasks or (table.task,),
            tokens=row.tokens,
            token_grid=row.token_grid,
        )


def load_ablation(
    path: Path, changes: Mapping[str, Any] | None = None, *, recipe: Path | None = None
) -> AblationSpec:
    """Read an ablation file.

    Args:
        path: The file.
        changes: Values that replace those of `recipe.data`, such as the folder of the data.
        recipe: A training recipe, which replaces the file's own.

    Raises:
        RecipeError: The file is missing, unreadable or breaks the schema; names the key and the
            reason.
    """
    content = read_yaml(path)
    if recipe is not None and isinstance(content, dict):
        content = {**content, **_from_recipe(recipe, content)}
    elif isinstance(content, dict) and 'recipe' not in content:
        raise RecipeError(
            f'{path}: recipe: the file has none; name a training recipe, for example '
            '--recipe config/training/ikea-asm.yaml'
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
    """Return whether an ablation file has a training recipe of its own.

    Raises:
        RecipeError: The file is missing or unreadable.
    """
    content = read_yaml(path)
    return not isinstance(content, dict) or 'recipe' in content


def papers_recipes(path: Path) -> list[Path]:
    """Return the shipped recipes of the papers' datasets that an ablation file can be run with.

    Raises:
        RecipeError: The file is missing or unreadable.
    """
    wanted = read_yaml(path).get('datasets') or get_args(Dataset)
    found = []
    for recipe in sorted((share_directory() / 'config' / 'training').glob('*.yaml')):
        if load_recipe(recipe).data.dataset in wanted:
            found.append(recipe)
    return found


def data_root(recipe: Path) -> Path:
    """Return the folder of the data that a training recipe names.

    Raises:
        RecipeError: The recipe is missing or unreadable, or breaks the schema.
    """
    return load_recipe(recipe).data.root


def _from_recipe(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name and the recipe that a training recipe gives to an ablation file."""
    found = load_recipe(path)
    datasets = content.get('datasets') or (found.data.dataset,)
    if found.data.dataset not in datasets:
        raise RecipeError(
            f'{path}: data.dataset: {found.data.dataset!r}; the ablation is only about '
            f'{", ".join(datasets)}'
        )
    recipe = found.model_dump(mode='json', exclude={'grid'})
    recipe['data']['options'] |= content.get('options') or {}
    return {'name': f'{content.get("name")}-{found.name}', 'recipe': recipe}
