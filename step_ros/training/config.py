"""The recipe of a model trained on a dataset: everything that decides what `step_ros train` makes.

The defaults are the papers': 16 frames at an interval of 2, three windows of a clip averaged at
test time, batch 32, 60 epochs, learning rate 1e-3, weight decay 0.02, cosine.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from step_ros.schema import StrictModel
from step_ros.training.augmentation import Augmentation
from step_ros.training.feature_cache.spec import CacheType
from step_ros.training.schema import TokenGrid

# ---- The recipe of a tabletop model: everything that decides what `step_ros train` makes.


class Optimisation(StrictModel):
    """AdamW with a cosine schedule."""

    epochs: int = Field(gt=0)
    batch: int = Field(gt=0, description='samples')
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class HeadOptimisation(StrictModel):
    """How heads are fitted; the defaults are the papers' (longer STEP paper, supplement B)."""

    epochs: int = Field(default=60, gt=0)
    batch: int = Field(default=32, gt=0, description='windows')
    learning_rate: float = Field(default=1e-3, gt=0, description='at its peak, cosine after that')
    weight_decay: float = Field(default=0.02, ge=0)
    optimiser: Literal['adamw', 'sgd'] = Field(
        default='adamw', description='SGD (momentum 0.9) is what the papers take for NTU RGB+D 120'
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class EncoderRecipe(Optimisation):
    """Dense pre-training of the encoder on rendered frames."""

    backbone: str = Field(description="timm's name of the architecture")
    arguments: dict[str, Any] = Field(default_factory=dict)
    scenes: int = Field(gt=0, description='scenes to render')
    frames_per_scene: int = Field(gt=0)


class HeadsRecipe(HeadOptimisation):
    """Fitting the heads on tokens of the frozen encoder."""

    attention_heads: int = Field(gt=0)
    clips_per_action: int = Field(gt=0)


class EvaluationRecipe(StrictModel):
    """Held-out clips, for each action."""

    validation_clips_per_action: int = Field(gt=0)
    test_clips_per_action: int = Field(gt=0)


class Recipe(StrictModel):
    """Everything in a recipe file for the tabletop."""

    name: str
    seed: int = 0
    views: tuple[Literal['front', 'side', 'top'], ...] = Field(min_length=1)
    image_height: int = Field(gt=0, description='pixels')
    image_width: int = Field(gt=0, description='pixels')
    token_grid: TokenGrid | None = Field(
        default=None,
        description='rows and columns onto which patch tokens are averaged, in training and in '
        'the bundle alike; none: one token per patch',
    )
    frames: int = Field(ge=2, description='T, frames in a window')
    frame_period: float = Field(gt=0, description='seconds between two frames of a window')
    encoder: EncoderRecipe
    heads: HeadsRecipe
    evaluation: EvaluationRecipe


class DataRecipe(StrictModel):
    """What to learn from."""

    dataset: str = Field(description='a name of `step_ros data list`')
    root: Path = Field(description="the dataset's folder")
    options: dict[str, str] = Field(default_factory=dict, description="the reader's options")
    tasks: tuple[str, ...] = Field(default=(), description='tasks to learn; none: all there are')
    counterparts: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description='nearly symmetric labels by task, both ways; for data that does not name them',
    )
    most_left_out: float = Field(
        default=0.02, ge=0, lt=1, description='share of unusable clips above which training stops'
    )


class BackboneRecipe(StrictModel):
    """The frozen encoder: of a bundle, or of timm."""

    bundle: str | None = Field(default=None, description="a bundle's folder or shipped name")
    name: str | None = Field(default=None, description="timm's name of the architecture")
    weights: str = Field(default='hub', description='`hub` or a .safetensors file')
    image_height: int = Field(default=224, gt=0, description='pixels')
    image_width: int = Field(default=224, gt=0, description='pixels')
    token_grid: TokenGrid | None = Field(
        default=None,
        description='rows and columns onto which patch tokens are averaged, in training and in '
        "the bundle alike; none: the encoder's own",
    )

    @model_validator(mode='after')
    def _check(self) -> 'BackboneRecipe':
        if (self.bundle is None) == (self.name is None):
            raise ValueError('give either a bundle or the name of an architecture')
        return self


class SamplingRecipe(StrictModel):
    """Which frames of a clip make a window.

    `interval` is how the stream looks at time. `segments` stretches each clip, however long, over
    a window: good for datasets of trimmed clips, but a stream has no clips. So the bundle's frame
    period is then `frame_period` or, without one, the median over the training clips of their
    duration divided by `frames`, which training says.
    """

    kind: Literal['interval', 'segments'] = Field(
        default='interval',
        description='frames at equal distances in time, or one of each of `frames` equal segments',
    )
    frames: int = Field(default=16, ge=1, description='T, frames in a window')
    interval: int | None = Field(
        default=2,
        ge=1,
        description='every how many frames one is taken; none: frame_period, or segments',
    )
    frame_period: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="seconds between two frames of the stream's windows; wins over the interval",
    )
    train_views: int = Field(default=4, ge=1, description='augmented windows kept of a clip')
    test_clips: int = Field(
        default=3, ge=1, description='windows over time averaged at test time; 1 for segments'
    )
    test_crops: int = Field(
        default=1, ge=1, description='parts of the image over its longer side, averaged likewise'
    )

    @property
    def test_views(self) -> int:
        """Windows kept of a clip for testing."""
        return self.test_clips * self.test_crops

    @model_validator(mode='before')
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Segments have other defaults."""
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

    name: str = Field(default='step', description='as in docs/heads.md')
    options: dict[str, Any] = Field(default_factory=dict, description='its options')


class CacheRecipe(StrictModel):
    """Where tokens are kept."""

    folder: Path = Field(default=Path('runs/cache'), description='of all caches')
    dtype: CacheType = Field(default='float16', description='int8 takes half the room')
    workers: int = Field(default=2, ge=0, description='processes that decode')


class DatasetRecipe(StrictModel):
    """Everything in a recipe file for a dataset."""

    name: str
    seed: int = 0
    data: DataRecipe
    backbone: BackboneRecipe
    sampling: SamplingRecipe = SamplingRecipe()
    augmentation: Augmentation = Augmentation()
    heads: HeadRecipe = HeadRecipe()
    grid: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='further runs on the same pass, by name: what differs from `heads`; the best '
        'on the validation clips becomes the bundle',
    )
    cache: CacheRecipe = CacheRecipe()

    def runs(self) -> dict[str, HeadRecipe]:
        """Return the settings of each run: `heads` alone, or the runs of the grid."""
        base = self.heads.model_dump()
        if not self.grid:
            return {'heads': self.heads}
        return {
            name: HeadRecipe.model_validate(base | changes) for name, changes in self.grid.items()
        }


# ---- Reading a recipe file: for the tabletop, or, when it says `data`, for a dataset.


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
