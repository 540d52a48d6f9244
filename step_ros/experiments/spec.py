"""What `config/ablations/*.yaml` may say: a grid of heads, in the tables it is reported in."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from step_ros.experiments.paper_figures import Dataset
from step_ros.model.heads.registry import consumed_tokens, head_entry
from step_ros.resources import share_directory
from step_ros.schema import StrictModel
from step_ros.training.config import HeadRecipe, Recipe, RecipeError, load_recipe, read_yaml
from step_ros.training.feature_cache.spec import CacheType
from step_ros.training.predict import Order
from step_ros.training.schema import TokenGrid

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
    """A column of figures."""

    title: str
    metric: Metric = Field(description='as `task_metrics` names it, `parameters` or `gflops`')
    order: Order = 'correct'
    view: Literal['all', 'trained', 'unseen'] = 'all'
    task: str | None = Field(default=None, description="none: the table's")
    published: str | None = Field(default=None, description="the published figures' metric")


class Row(StrictModel):
    """A run: in what it differs from the ablation's recipe.

    Rows with the same settings, in whatever tables, are one run.
    """

    title: str
    heads: dict[str, Any] = Field(default_factory=dict, description='what differs from `heads`')
    options: dict[str, Any] = Field(
        default_factory=dict, description='head options, beside those of `heads.options`'
    )
    frames: int | None = Field(default=None, ge=1, description='fewer, spread over the window')
    token_grid: TokenGrid | None = Field(
        default=None, description='rows and columns onto which patch tokens are averaged'
    )
    share: float = Field(default=1.0, gt=0, le=1, description='of the training clips of a label')
    views: tuple[str, ...] = Field(default=(), description='trained on; none: all there are')
    tasks: tuple[str, ...] = Field(default=(), description="none: the table's")
    tokens: CacheType | None = Field(
        default=None, description='as if the cache kept them so; none: as it does'
    )
    published: str | None = Field(default=None, description="the published figures' row")


class TableSpec(StrictModel):
    """A table of the report."""

    title: str
    source: str = Field(default='', description="the papers' table it follows")
    published: tuple[str, ...] = Field(
        default=(), description='where the papers\' figures stand, as "step-long/Table 11"'
    )
    task: str
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    note: str = ''


class Side(StrictModel):
    """One side of a comparison: a figure of a table."""

    table: str
    row: str
    column: str


class Finding(StrictModel):
    """Something the papers found, as a comparison of two figures of this report."""

    says: str
    source: str
    figure: Side
    against: Side
    at_least: float | None = Field(default=None, description='points that the first lies above')
    equal: bool = Field(default=False, description='both are the same to the digit')

    @model_validator(mode='after')
    def _check(self) -> 'Finding':
        if (self.at_least is None) != self.equal:
            raise ValueError('give either at_least or equal')
        return self


class RunSpec(StrictModel):
    """Everything that decides a run, beside the ablation's recipe."""

    head: HeadRecipe
    frames: int
    share: float
    views: tuple[str, ...]
    tasks: tuple[str, ...]
    tokens: CacheType | None = None
    token_grid: TokenGrid | None = None

    @property
    def key(self) -> str:
        """The first digits of a digest of all of the above."""
        # What is not asked for adds nothing: runs keep their names when there is more to ask for.
        optional = ('tokens', 'token_grid')
        unasked = {field for field in optional if getattr(self, field) is None}
        content = self.model_dump_json(exclude=unasked)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def data(self) -> tuple[object, ...]:
        """What decides the windows it sees: runs that agree in it share a pass."""
        return self.share, self.views, self.tokens, self.head.epochs, self.head.batch


class AblationSpec(StrictModel):
    """Everything in an ablation file."""

    name: str
    title: str
    intro: str = ''
    recipe: Recipe
    datasets: tuple[str, ...] = Field(
        default=(), description='those that a file without a recipe is about; none: any'
    )
    options: dict[str, str] = Field(
        default_factory=dict, description="the reader's, which replace those of such a recipe"
    )
    frames: int | None = Field(
        default=None, ge=1, description="of a head's window, where a row does not say; none: all"
    )
    tables: dict[str, TableSpec] = Field(min_length=1)
    findings: tuple[Finding, ...] = ()
    pictured: tuple[str, ...] = Field(
        default=(), description='"TABLE/ROW" of the runs shown as confusion and t-SNE plots'
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
                        f'{side.column!r}; there are {", ".join(titles)}'
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
            ValueError: There is none.
        """
        table, _, row = place.partition('/')
        if table not in self.tables or row not in self.tables[table].rows:
            raise ValueError(f'{place!r}: no such row; expected TABLE/ROW of this file')
        return self.tables[table].rows[row]

    def head(self, row: Row) -> HeadRecipe:
        """Return kind and optimisation of a row's heads."""
        base = self.recipe.heads.model_dump()
        # The recipe's options hold for every kind of head that has them.
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


# ---- Reading ablation files, and finding the datasets that one without a recipe can be run on.


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
        if load_recipe(recipe).data.dataset in wanted:
            found.append(recipe)
    return found


def data_root(recipe: Path) -> Path:
    """Return the folder where a dataset's recipe looks for it.

    Raises:
        RecipeError: It is missing or unreadable, or breaks the schema.
    """
    return load_recipe(recipe).data.root


def _from_recipe(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Put a training recipe into an ablation, which is then about that recipe's dataset."""
    found = load_recipe(path)
    datasets = content.get('datasets') or (found.data.dataset,)
    if found.data.dataset not in datasets:
        raise RecipeError(
            f'{path}: data.dataset: {found.data.dataset!r}; the ablation is about '
            f'{", ".join(datasets)}'
        )
    recipe = found.model_dump(mode='json', exclude={'grid'})
    recipe['data']['options'] |= content.get('options') or {}
    return {'name': f'{content.get("name")}-{found.name}', 'recipe': recipe}
