# SPDX-License-Identifier: Apache-2.0
"""The training recipe: every setting that changes the bundle `step_ros train` writes.

`docs/recipes.md` lists all keys; `scripts/write_recipe_tables.py` writes it from these classes.
The defaults are the papers' (longer STEP paper, supplement B): 16 frames at an interval of 2,
three windows of a clip averaged at test time, batch 32, 60 epochs, learning rate 1e-3, weight
decay 0.02, cosine schedule.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic.config import JsonDict

from step_ros.model.backbone import HUB
from step_ros.schema import StrictModel
from step_ros.training.augmentation import Augmentation
from step_ros.training.feature_cache.spec import CacheType

TABLETOP = 'tabletop'

PIXELS: JsonDict = {'unit': 'pixels'}

View = Literal['front', 'side', 'top']

# Rows and columns of patch tokens.
TokenGrid = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class Optimisation(StrictModel):
    """AdamW with a cosine schedule."""

    epochs: int = Field(gt=0, description='passes over the training data')
    batch: int = Field(gt=0, description='samples in an optimiser step')
    learning_rate: float = Field(gt=0, description='peak learning rate; a half cosine follows')
    weight_decay: float = Field(ge=0, description='weight decay of AdamW')


class HeadOptimisation(StrictModel):
    """How heads are fitted; the defaults are the papers' (longer STEP paper, supplement B)."""

    epochs: int = Field(default=60, gt=0, description='passes over the training clips')
    batch: int = Field(default=32, gt=0, description='windows in an optimiser step')
    learning_rate: float = Field(
        default=1e-3, gt=0, description='peak learning rate; a half cosine follows'
    )
    weight_decay: float = Field(default=0.02, ge=0, description='weight decay of the optimiser')
    optimiser: Literal['adamw', 'sgd'] = Field(
        default='adamw',
        description='optimiser; the papers use SGD (momentum 0.9) for NTU RGB+D 120',
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description='share of a target that all labels divide'
    )


class PretrainingRecipe(Optimisation):
    """Dense pre-training of a random encoder on rendered frames of the tabletop."""

    scenes: int = Field(gt=0, description='scenes to render')
    frames_per_scene: int = Field(gt=0, description='frames of each scene, at random times')
    views: tuple[View, ...] = Field(
        default=('front', 'side', 'top'),
        min_length=1,
        description='cameras; each scene takes the next one',
    )


class RenderingRecipe(StrictModel):
    """The clips of the synthetic tabletop to render if they are missing."""

    clips: dict[Literal['train', 'val', 'test'], Annotated[int, Field(gt=0)]] = Field(
        default={'train': 100, 'val': 10, 'test': 30},
        description='clips of each action, by split',
    )
    views: tuple[View, ...] = Field(
        default=('front', 'side', 'top'),
        min_length=1,
        description='cameras; the clips of an action take them one after the other',
    )
    width: int = Field(
        default=160, gt=0, description='width of the videos', json_schema_extra=PIXELS
    )
    height: int = Field(
        default=120, gt=0, description='height of the videos', json_schema_extra=PIXELS
    )
    rate: float = Field(
        default=10.0,
        gt=0,
        description='frame rate of the videos',
        json_schema_extra={'unit': 'frames/s'},
    )
    seed: int = Field(default=0, ge=0, description='first scene; another seed gives other scenes')


class DataRecipe(StrictModel):
    """The dataset to learn from."""

    dataset: str = Field(description='name of the dataset, from `step_ros data list`')
    root: Path = Field(description="the dataset's folder")
    options: dict[str, str] = Field(
        default_factory=dict,
        description="options of the dataset's reader, from `step_ros data list`",
    )
    tasks: tuple[str, ...] = Field(
        default=(), description='tasks to learn; empty: all tasks of the dataset'
    )
    counterparts: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description='nearly symmetric labels by task, both ways; for data that does not name them',
    )
    most_left_out: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description='largest share of unusable clips; training stops above it',
    )
    rendering: RenderingRecipe | None = Field(
        default=None,
        description='for the dataset `tabletop`: render missing clips into `root`; none: '
        '`root` must be complete',
    )

    @model_validator(mode='after')
    def _check(self) -> 'DataRecipe':
        if self.rendering is not None and self.dataset != TABLETOP:
            raise ValueError(
                f'rendering is for the dataset {TABLETOP}, not for {self.dataset}: leave it out'
            )
        return self


class BackboneRecipe(StrictModel):
    """The frozen encoder: of a bundle, of timm, or pre-trained here on the tabletop."""

    bundle: str | None = Field(default=None, description="a bundle's folder or shipped name")
    name: str | None = Field(default=None, description="timm's name of the architecture")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="further arguments of timm's constructor, for an architecture of one's own",
    )
    weights: str = Field(default=HUB, description='`hub` or a .safetensors file')
    pretraining: PretrainingRecipe | None = Field(
        default=None,
        description='pre-train random weights on the tabletop; none: take `weights`',
    )
    image_height: int = Field(
        default=224,
        gt=0,
        description="height of the encoder's images; a bundle has its own",
        json_schema_extra=PIXELS,
    )
    image_width: int = Field(
        default=224,
        gt=0,
        description="width of the encoder's images; a bundle has its own",
        json_schema_extra=PIXELS,
    )
    token_grid: TokenGrid | None = Field(
        default=None,
        description='rows and columns onto which patch tokens are averaged, in training and in '
        "the bundle; none: the encoder's own",
    )

    @model_validator(mode='after')
    def _check(self) -> 'BackboneRecipe':
        if (self.bundle is None) == (self.name is None):
            raise ValueError('give either a bundle or the name of an architecture')
        if self.bundle is not None and (self.arguments or self.pretraining is not None):
            raise ValueError('arguments and pretraining go with a name, not with a bundle')
        if self.pretraining is not None and self.weights != HUB:
            raise ValueError(
                f'weights={self.weights}: pretraining makes the weights; leave one of them out'
            )
        return self

    @property
    def from_hub(self) -> bool:
        """Whether the weights come from the hub, so that a bundle need not hold them."""
        return self.bundle is None and self.pretraining is None and self.weights == HUB


class SamplingRecipe(StrictModel):
    """Which frames of a clip make a window.

    `interval` samples time as the stream does. `segments` stretches each clip, however long, over
    a window: good for datasets of trimmed clips, but a stream has no clips. The bundle's frame
    period is then `frame_period`. Without one, it is the median over the training clips of
    their duration divided by `frames`; training prints it.
    """

    kind: Literal['interval', 'segments'] = Field(
        default='interval',
        description='frames at equal distances in time, or one frame of each of `frames` equal '
        'segments',
    )
    frames: int = Field(
        default=16, ge=1, description='T, frames in a window', json_schema_extra={'unit': 'frames'}
    )
    interval: int | None = Field(
        default=2,
        ge=1,
        description='distance of two frames of a window in a video; none: `frame_period` instead, '
        'or segments',
        json_schema_extra={'unit': 'frames'},
    )
    frame_period: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="time between two frames of the stream's windows; overrides the interval",
        json_schema_extra={'unit': 's'},
    )
    train_views: int = Field(default=4, ge=1, description='augmented windows kept of a clip')
    test_clips: int = Field(
        default=3, ge=1, description='windows over time averaged at test time; 1 for segments'
    )
    test_crops: int = Field(
        default=1,
        ge=1,
        description='parts of the image over its longer side, averaged at test time',
    )

    @property
    def test_views(self) -> int:
        """Windows kept of a clip for testing."""
        return self.test_clips * self.test_crops

    @model_validator(mode='before')
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Give segments their own defaults."""
        if isinstance(given, dict) and given.get('kind') == 'segments':
            return {'interval': None, 'test_clips': 1, **given}
        return given

    @model_validator(mode='after')
    def _check(self) -> 'SamplingRecipe':
        if self.kind == 'segments':
            if self.interval is not None:
                raise ValueError(
                    f'interval={self.interval} goes with kind interval: leave it out for segments'
                )
            if self.test_clips != 1:
                raise ValueError(
                    f'test_clips={self.test_clips}: segments reach over the whole clip, which is '
                    'one window; leave it out, or take more test_crops'
                )
        elif self.interval is None and self.frame_period is None:
            raise ValueError('give an interval or a frame_period')
        return self


class HeadRecipe(HeadOptimisation):
    """Kind of head, and how it is fitted."""

    name: str = Field(default='step', description='kind of head, see docs/heads.md')
    options: dict[str, Any] = Field(
        default_factory=dict, description='options of the head, see docs/heads.md'
    )


class CacheRecipe(StrictModel):
    """Where encoded tokens are kept."""

    folder: Path = Field(
        default=Path('runs/cache'),
        description='folder of all token caches and pre-trained encoders',
    )
    dtype: CacheType = Field(
        default='float16',
        description='format of the tokens; int8 takes half the disk space of float16',
    )
    workers: int = Field(default=2, ge=0, description='processes that decode videos')


class Recipe(StrictModel):
    """Everything in a recipe file."""

    name: str = Field(description='name of the bundle')
    description: str = Field(
        default='', description="text for the bundle; empty: the dataset's title"
    )
    license: str = Field(default='', description='SPDX identifier for the bundle')
    seed: int = Field(
        default=0, description='seed of encoder, heads, order of clips and augmentation'
    )
    data: DataRecipe = Field(description='the dataset to learn from')
    backbone: BackboneRecipe = Field(description='the frozen encoder')
    sampling: SamplingRecipe = Field(
        default=SamplingRecipe(), description='which frames of a clip make a window'
    )
    augmentation: Augmentation = Field(
        default=Augmentation(), description='how training views differ'
    )
    heads: HeadRecipe = Field(default=HeadRecipe(), description='the heads, and how they learn')
    grid: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='runs to fit at once, by name: their changes to `heads`; the best run on the '
        'validation clips becomes the bundle; empty: `heads` alone',
    )
    cache: CacheRecipe = Field(default=CacheRecipe(), description='where encoded tokens are kept')

    def runs(self) -> dict[str, HeadRecipe]:
        """Return the settings of each run: `heads` alone, or the runs of the grid."""
        base = self.heads.model_dump()
        if not self.grid:
            return {'heads': self.heads}
        return {
            name: HeadRecipe.model_validate(base | changes) for name, changes in self.grid.items()
        }


class RecipeError(ValueError):
    """A recipe file is missing, unreadable or breaks the schema."""


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: The file is missing, unreadable or breaks the schema; names the key and why.
    """
    try:
        recipe = Recipe.model_validate(read_yaml(path))
        recipe.runs()  # validates the changes of the grid's runs
        return recipe
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(part) for part in first['loc'])
        raise RecipeError(f'{path}: {key}: {first["msg"]}; found {first["input"]!r}') from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        RecipeError: The file is missing or unreadable.
    """
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f'{path}: not readable: {error}') from error
