"""Trainable parameters and multiply-adds, counted on the real modules.

The modules are run on torch's meta device, which knows shapes and does no arithmetic, under
torch's own counter. A multiply-add counts one, as in the papers (torch counts it two).

The papers' convention, derived from their figures: in the backbone, adapters included, the
products of the attention (query times key, weights times value) are left out; in a head they count
twice.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from step_ros.model.heads.base import Head
from step_ros.model.tokens import tokens_per_frame

# What torch calls the products of the attention; all else that it counts is linear or convolution.
_ATTENTION_PRODUCTS = ('bmm', 'baddbmm', 'scaled_dot_product', 'flash_attention')
_GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Compute of one pass.

    Attributes:
        linear: Multiply-adds of linear layers and convolutions, in units of 1e9.
        attention: Multiply-adds of the attention's two products, in units of 1e9.
    """

    linear: float
    attention: float

    @property
    def full(self) -> float:
        """Every multiply-add, in units of 1e9."""
        return self.linear + self.attention


def count_cost(module: nn.Module, x: Tensor) -> Cost:
    """Count one forward pass.

    Args:
        module: On the meta device.
        x: Its input, on the meta device.

    Raises:
        ValueError: Something is not on the meta device: counting would compute.
    """
    devices = {tensor.device.type for tensor in (x, *module.parameters())}
    if devices != {'meta'}:
        raise ValueError(f'expected module and input on the meta device, found {devices}')
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
    """Count a head on one window.

    Args:
        head: On the meta device.
        patches: Patches of a frame.
    """
    tokens = tokens_per_frame(head.consumes, patches)
    return count_cost(head, torch.empty(1, head.frames, tokens, head.width, device='meta'))


def as_in_the_papers(backbone: Cost, heads: list[Cost]) -> float:
    """Return what the papers would report for one backbone pass and its heads, in 1e9."""
    return backbone.linear + sum(head.linear + 2 * head.attention for head in heads)


def full(backbone: Cost, heads: list[Cost]) -> float:
    """Return every multiply-add of one backbone pass and its heads, in 1e9."""
    return backbone.full + sum(head.full for head in heads)


def trainable_parameters(*modules: nn.Module) -> int:
    """Return how many parameters training changes: those that require a gradient."""
    return sum(
        parameter.numel()
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    )


def on_meta(build: Any, *args: Any, **options: Any) -> Any:
    """Build something on the meta device: shapes alone, no memory, no time."""
    with torch.device('meta'):
        return build(*args, **options)
