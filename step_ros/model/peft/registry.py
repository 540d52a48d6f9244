# SPDX-License-Identifier: Apache-2.0
"""The registry of parameter-efficient fine-tuning: small trainable parts in a frozen backbone.

Image methods encode every frame on its own and leave time to the head, as in Table IV of the STEP
paper. Video methods (`temporal`) mix the frames of a window inside the backbone. Trained adapters
change the tokens, so tokens cached under the digest of the frozen backbone do not fit them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from step_ros.model.backbone import AdaptedLayer, Backbone
from step_ros.model.peft.adapters import insert_adaptformer, insert_aim, insert_st_adapter
from step_ros.model.peft.prompts import insert_prompts

WORKING_FAMILIES = 'ViT, DeiT, MAE, DINO, DINOv2, CLIP and SigLIP work'


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a method.

    Attributes:
        default: Its default.
        expected: Description of the valid values, for messages.
        accepts: Returns whether a value is valid.
    """

    default: bool | int | float
    expected: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class PeftMethod:
    """A way of adapting a frozen backbone.

    Attributes:
        name: Name in the registry.
        title: Name in tables.
        source: Publication, and the tables of the STEP papers with its results.
        temporal: Whether the method mixes frames inside the backbone.
        insert: Changes a timm model in place; takes the options, and `frames` if temporal.
        options: Options by name.
    """

    name: str
    title: str
    source: str
    temporal: bool
    insert: Callable[..., None]
    options: Mapping[str, Option]


def _count(default: int) -> Option:
    return Option(default=default, expected='an integer of at least 1', accepts=_is_count)


def _flag(default: bool) -> Option:
    return Option(
        default=default, expected='true or false', accepts=lambda value: isinstance(value, bool)
    )


def _scale(default: float) -> Option:
    return Option(default=default, expected='a finite number other than 0', accepts=_is_scale)


def _probability(default: float) -> Option:
    return Option(
        default=default,
        expected='a number from 0 to below 1',
        accepts=lambda value: _is_number(value) and 0 <= value < 1,
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scale(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value != 0


# The STEP paper does not give the number of prompts. Its 362.4 GFLOPs for VPT (Table V) fit 8
# prompts with DINOv2 ViT-B/14, 16 frames and the paper's convention; VPT's own default is 5.
PROMPTS = 8

PEFT_METHODS: dict[str, PeftMethod] = {
    method.name: method
    for method in (
        PeftMethod(
            name='vpt-deep',
            title='VPT-Deep',
            source='Jia et al. 2022; STEP paper, Tables IV and V',
            temporal=False,
            insert=partial(insert_prompts, deep=True),
            options={'prompts': _count(PROMPTS)},
        ),
        PeftMethod(
            name='vpt-shallow',
            title='VPT-Shallow',
            source='Jia et al. 2022; STEP paper, Tables IV and V',
            temporal=False,
            insert=partial(insert_prompts, deep=False),
            options={'prompts': _count(PROMPTS)},
        ),
        PeftMethod(
            name='adaptformer',
            title='AdaptFormer',
            source='Chen et al. 2022; STEP paper, Table IV',
            temporal=False,
            insert=insert_adaptformer,
            options={
                'bottleneck': _count(64),
                'dropout': _probability(0.1),
                'scale': _scale(0.1),
            },
        ),
        PeftMethod(
            name='st-adapter',
            title='ST-Adapter',
            source='Pan et al. 2022; STEP paper, Tables I, II and V',
            temporal=True,
            insert=insert_st_adapter,
            options={'bottleneck': _count(384), 'before_attention': _flag(False)},
        ),
        PeftMethod(
            name='aim',
            title='AIM',
            source="Yang et al. 2023; tables of the STEP paper's longer version",
            temporal=True,
            insert=insert_aim,
            options={
                'bottleneck': _count(192),
                'scale': _scale(0.5),
                'before_attention': _flag(False),
            },
        ),
    )
}


def insert_adapters(backbone: Backbone, name: str, *, frames: int, **options: Any) -> Backbone:
    """Insert trainable parts into a frozen backbone, in place.

    The new parameters are initialised from torch's global generator, on the backbone's device and
    in its dtype. All other parameters are frozen.

    Args:
        backbone: A backbone with its weights loaded.
        name: One of `PEFT_METHODS`.
        frames: Frames in a window (t). With a temporal method, the backbone then needs whole
            windows of images, oldest first: a multiple of `frames`.
        options: Options of the method; the others keep their defaults.

    Returns:
        The backbone. It returns as many tokens as before.

    Raises:
        ValueError: `name` or an option is unknown, a value is invalid, the architecture cannot be
            adapted, or the backbone has adapters already.
    """
    if name not in PEFT_METHODS:
        raise ValueError(f'adapters {name!r} are unknown; known: {", ".join(PEFT_METHODS)}')
    method = PEFT_METHODS[name]
    values = _checked_options(method, options)
    if not _is_count(frames):
        raise ValueError(f'adapters {name!r}: frames={frames!r}; expected {_count(1).expected}')
    _check_architecture(backbone)
    if method.temporal:
        values['frames'] = frames
    backbone.requires_grad_(False)
    example: Tensor = next(backbone.parameters())
    with torch.device(example.device):
        method.insert(backbone.vit, **values)
    for _, parameter in _inserted(backbone):
        parameter.data = parameter.data.to(example.dtype)
    values.pop('frames', None)
    backbone.adapters = (name, values)
    backbone.eval()
    return backbone


def adapter_state(backbone: Backbone) -> dict[str, Tensor]:
    """Return copies of the inserted parameters by name; empty without adapters."""
    return {name: parameter.detach().clone() for name, parameter in _inserted(backbone)}


def load_adapter_state(backbone: Backbone, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of `adapter_state` into a backbone with the same adapters.

    Raises:
        ValueError: A tensor is missing, unexpected, has another shape or is not finite; the
            backbone then stays unchanged.
    """
    parameters = dict(_inserted(backbone))
    for name in sorted(parameters.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f'adapter tensor {name!r} is missing')
        if name not in parameters:
            raise ValueError(
                f'adapter tensor {name!r} is unexpected: this backbone has no such adapter'
            )
        found, expected = tensors[name], parameters[name]
        if found.shape != expected.shape:
            raise ValueError(
                f'adapter tensor {name!r} has shape {list(found.shape)}, '
                f'expected {list(expected.shape)}'
            )
        if not bool(found.isfinite().all()):
            raise ValueError(f'adapter tensor {name!r} has values that are not finite')
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def frozen_state(backbone: Backbone) -> dict[str, Tensor]:
    """Return the weights of the backbone without its adapters, under their original names."""
    inserted = {name for name, _ in _inserted(backbone)}
    return {
        key.replace('.frozen.', '.'): tensor
        for key, tensor in backbone.vit.state_dict().items()
        if key not in inserted
    }


def _checked_options(method: PeftMethod, options: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in method.options:
            known = ', '.join(f'{key}={option.default}' for key, option in method.options.items())
            raise ValueError(
                f'adapters {method.name!r} have no option {name!r}; options and defaults: {known}'
            )
        option = method.options[name]
        if not option.accepts(value):
            raise ValueError(
                f'adapters {method.name!r}: {name}={value!r}; expected {option.expected}'
            )
    return {key: options.get(key, option.default) for key, option in method.options.items()}


def _check_architecture(backbone: Backbone) -> None:
    """Check that adapters can be inserted: they need the parts of timm's `Block`."""
    vit = backbone.vit
    if any(isinstance(module, AdaptedLayer) for module in backbone.modules()):
        raise ValueError(f'backbone {backbone.name!r} has adapters already')
    others = {type(block) for block in getattr(vit, 'blocks', [])} - {Block}
    if others or not isinstance(vit, VisionTransformer):
        kinds = sorted(
            f'{kind.__module__.rpartition(".")[2]}.{kind.__qualname__}'
            for kind in others or {type(vit)}
        )
        raise ValueError(
            f'backbone {backbone.name!r} cannot be adapted: it is made of {", ".join(kinds)}, not '
            f"of timm's vision_transformer.Block ({WORKING_FAMILIES}; EVA, DINOv3, BEiT and SAM "
            'do not work)'
        )


def _inserted(backbone: Backbone) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and parameter of everything inserted, trainable or not."""
    for place, module in backbone.vit.named_modules():
        if isinstance(module, AdaptedLayer):
            for name, parameter in module.named_parameters():
                if not name.startswith('frozen.'):
                    yield f'{place}.{name}', parameter
