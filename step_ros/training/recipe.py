"""The recipe of a tabletop model: everything that decides what `step_ros train` makes."""

from typing import Any, Literal

from pydantic import Field

from step_ros.schema import Strict
from step_ros.training.schema import TokenGrid


class Optimisation(Strict):
    """AdamW with a cosine schedule."""

    epochs: int = Field(gt=0)
    batch: int = Field(gt=0, description='samples')
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class HeadOptimisation(Strict):
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


class EvaluationRecipe(Strict):
    """Held-out clips, for each action."""

    validation_clips_per_action: int = Field(gt=0)
    test_clips_per_action: int = Field(gt=0)


class Recipe(Strict):
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
