# SPDX-License-Identifier: Apache-2.0
"""Trainable parameters and multiply-adds, counted on the real modules.

The modules run on torch's meta device, which knows shapes and does no arithmetic. Torch's own
counter counts the operations. A multiply-add counts one here, as in the papers, and two in torch.

The papers follow another convention, derived here from their figures. In the backbone, adapters
included, they leave out the products of the attention (query times key, weights times value). In a
head they count these products twice.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from step_ros.model.heads.base import Head
from step_ros.model.tokens import tokens_per_frame

# While it is imported, torch's counter warns of a missing triton, which it needs on a GPU alone.
logging.getLogger('torch.utils.flop_counter').setLevel(logging.ERROR)
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

# Torch's names of the attention's products. The counter's other operations are linear layers and
# convolutions.
_ATTENTION_PRODUCTS = ('bmm', 'baddbmm', 'scaled_dot_product', 'flash_attention')
_GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Multiply-adds of one forward pass.

    Attributes:
        linear: Multiply-adds of linear layers and convolutions, in units of 1e9.
        attention: Multiply-adds of the attention's two products, in units of 1e9.
    """

    linear: float
    attention: float

    @property
    def full(self) -> float:
        """All multiply-adds, in units of 1e9."""
        return self.linear + self.attention


def count_cost(module: nn.Module, x: Tensor) -> Cost:
    """Count the multiply-adds of one forward pass.

    Args:
        module: A module on the meta device.
        x: Its input, on the meta device.

    Raises:
        ValueError: The module or the input is not on the meta device.
    """
    devices = {tensor.device.type for tensor in (x, *module.parameters())}
    if devices != {'meta'}:
        raise ValueError(
            f'expected module and input on the meta device, found {devices}; use `on_meta`'
        )
    with FlopCounterMode(display=False) as counter:
        module(x)
    linear = attention = 0.0
    for operation, flops in counter.get_flop_counts()['Global'].items():
        if any(name in str(operation) for name in _ATTENTION_PRODUCTS):
            attention += flops / 2 / _GIGA
        else:
            linear += flops / 2 / _GIGA
    return Cost(linear=linear, attention=attention)


def count_head(head: Head, *, patches: int) -> Cost:
    """Count the multiply-adds of a head on one window.

    Args:
        head: A head on the meta device.
        patches: Patches of a frame.
    """
    tokens = tokens_per_frame(head.consumes, patches)
    return count_cost(head, torch.empty(1, head.frames, tokens, head.width, device='meta'))


def as_in_the_papers(backbone: Cost, heads: list[Cost]) -> float:
    """Return the papers' count of one backbone pass and its heads, in units of 1e9."""
    return backbone.linear + sum(head.linear + 2 * head.attention for head in heads)


def full(backbone: Cost, heads: list[Cost]) -> float:
    """Return the full count of one backbone pass and its heads, in units of 1e9."""
    return backbone.full + sum(head.full for head in heads)


def trainable_parameters(*modules: nn.Module) -> int:
    """Return the number of parameters that require a gradient."""
    return sum(
        parameter.numel()
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    )


def on_meta(build: Any, *args: Any, **options: Any) -> Any:
    """Return `build(*args, **options)`, built on the meta device: shapes without values."""
    with torch.device('meta'):
        return build(*args, **options)
