# SPDX-License-Identifier: Apache-2.0
"""The schema of `bundle.yaml`: backbone, heads, image size, and the labels of each task."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from torch import nn

from step_ros.schema import StrictModel

Digest = Annotated[str, Field(pattern=r'^sha256:[0-9a-f]{64}$')]

Count = Annotated[int, Field(strict=True, gt=0)]

Share = Annotated[float, Field(gt=0, le=1)]

Name = Annotated[str, Field(min_length=1, pattern=r'^[A-Za-z0-9][A-Za-z0-9._ -]*$')]


class TaskSpec(StrictModel):
    """A task: the labels that one head predicts."""

    name: Name
    labels: tuple[str, ...] = Field(
        min_length=2, description='labels, in the order of the outputs'
    )
    counterparts: dict[str, str] = Field(
        default_factory=dict, description='nearly symmetric partner of a label, both ways'
    )
    temperature: float = Field(
        default=1.0, gt=0, description='calibration: logits are divided by it before the softmax'
    )

    @field_validator('name')
    @classmethod
    def _check_name(cls, name: str) -> str:
        # Heads and their tensors go by the task's name, which torch restricts.
        if '.' in name or hasattr(nn.ModuleDict(), name):
            raise ValueError(
                f'task name {name!r} has a dot or is reserved by torch.nn.ModuleDict; rename it'
            )
        return name

    @model_validator(mode='after')
    def _check_labels(self) -> 'TaskSpec':
        if len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ValueError(f'labels of task {self.name!r} are empty or repeat')
        # Labels are printed to terminals, where an escape sequence is a command.
        if odd := [label for label in self.labels if not label.isprintable()]:
            raise ValueError(f'labels of task {self.name!r} are not printable: {odd}')
        for label, partner in self.counterparts.items():
            for name in (label, partner):
                if name not in self.labels:
                    raise ValueError(f'counterpart {name!r} is not a label of task {self.name!r}')
            if self.counterparts.get(partner) != label or label == partner:
                raise ValueError(
                    f'counterparts of task {self.name!r} must go both ways: '
                    f'{label!r} -> {partner!r} needs {partner!r} -> {label!r}, '
                    'and a label cannot be its own counterpart'
                )
        return self


class ImageSpec(StrictModel):
    """The encoder's input: the largest centred part of an image with this shape, scaled to it."""

    height: Count = Field(description='pixels')
    width: Count = Field(description='pixels')
    mean: tuple[float, float, float] = Field(description='channel means of RGB in [0, 1]')
    std: tuple[Share, Share, Share] = Field(
        description='channel standard deviations of RGB in [0, 1]'
    )


class AdaptersSpec(StrictModel):
    """The adapters that were inserted into the backbone and trained with the heads."""

    name: str = Field(description='method, as in docs/heads.md')
    options: dict[str, Any] = Field(
        default_factory=dict, description='options of the method; the others keep its defaults'
    )
    weights: Literal['adapters.safetensors'] = 'adapters.safetensors'
    digest: Digest


class BackboneSpec(StrictModel):
    """The frozen backbone and the place of its weights."""

    name: str = Field(min_length=1, description="timm's name of the architecture")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of timm's constructor"
    )
    weights: str = Field(
        min_length=1,
        description='`hub`, `random`, or a .safetensors file beside bundle.yaml',
    )
    digest: str = Field(description='sha256:... of the weight file, or random:SEED')
    token_grid: tuple[Count, Count] | None = Field(
        default=None,
        description='rows and columns onto which patch tokens are averaged; null: one per patch',
    )
    adapters: AdaptersSpec | None = Field(
        default=None, description='trained parts inside the backbone; STEP itself has none'
    )

    @model_validator(mode='after')
    def _check_weights(self) -> 'BackboneSpec':
        if self.weights == 'random':
            if not self.digest.removeprefix('random:').isdigit():
                raise ValueError(f'digest {self.digest!r}: random weights need random:SEED')
        elif not self.digest.startswith('sha256:'):
            raise ValueError(f'digest {self.digest!r}: expected sha256:...')
        elif self.weights != 'hub' and not re.fullmatch(
            r'[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors', self.weights
        ):
            raise ValueError(
                f'weights {self.weights!r}: expected hub, random or the name of a .safetensors '
                'file beside bundle.yaml'
            )
        return self


class HeadsSpec(StrictModel):
    """The heads: one architecture, and a set of weights for each task."""

    name: str = Field(default='step', description='kind of head, as in docs/heads.md')
    options: dict[str, Any] = Field(
        default_factory=dict,
        description='options of that kind; the others keep its defaults',
    )
    weights: Literal['heads.safetensors'] = 'heads.safetensors'
    digest: Digest


class BundleSpec(StrictModel):
    """All fields of `bundle.yaml`."""

    format: Literal[1] = 1
    name: Name
    description: str = ''
    license: str = ''
    frames: Count = Field(description='T, frames in a window')
    frame_period: float = Field(gt=0, description='seconds between two frames of a window')
    image: ImageSpec
    backbone: BackboneSpec
    heads: HeadsSpec
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    provenance: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode='after')
    def _check_tasks(self) -> 'BundleSpec':
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError(f'task names repeat: {names}')
        return self
