# SPDX-License-Identifier: Apache-2.0
"""The registry of heads: each name builds a head of the papers with the papers' options."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from step_ros.model.heads.base import Head
from step_ros.model.heads.fusions import LstmFusion, SelfAttentionFusion, TcnFusion
from step_ros.model.heads.probes import AttentiveProbe, LinearProbe
from step_ros.model.heads.step import StepHead
from step_ros.model.tokens import TokenKind

# Parameters that follow from the data and the backbone; all others are options of a head.
GIVEN = ('self', 'width', 'frames', 'tokens', 'classes')
STEP = 'STEP'
FUSION = 'fusion paper Sec. 3.4'


@dataclass(frozen=True, kw_only=True)
class HeadEntry:
    """An entry of the registry.

    Attributes:
        title: Name of the head in the papers.
        source: Section of the papers that describes it.
        build: Class of the head.
        preset: Options whose defaults under this name differ from those of the class.
    """

    title: str
    source: str
    build: type[Head]
    preset: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """All options with their defaults under this name."""
        parameters = inspect.signature(self.build.__init__).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.name not in GIVEN}
        return defaults | dict(self.preset)


def _fusion(title: str, build: type[Head], **preset: Any) -> HeadEntry:
    return HeadEntry(title=title, source=FUSION, build=build, preset=MappingProxyType(preset))


HEADS: Mapping[str, HeadEntry] = MappingProxyType(
    {
        'step': HeadEntry(title='STEP', source=f'{STEP} Sec. III.A, Eq. 1-2', build=StepHead),
        'linear': HeadEntry(
            title='Linear probing', source=f'{STEP} (long) Sec. D', build=LinearProbe
        ),
        'attentive': HeadEntry(
            title='Attentive probing', source=f'{STEP} (long) Sec. D', build=AttentiveProbe
        ),
        'self-attention': HeadEntry(
            title='Self-attention probing',
            source=f'{STEP} (long) Sec. D, Table 13',
            build=StepHead,
            preset=MappingProxyType({'cls': 'frame', 'positions': 'none'}),
        ),
        'fusion-avg': _fusion('Average pooling', LinearProbe),
        'fusion-avg-relu': _fusion('Average pooling + ReLU', LinearProbe, classifier='mlp'),
        'fusion-max': _fusion('Max pooling', LinearProbe, pooling='max'),
        'fusion-max-relu': _fusion(
            'Max pooling + ReLU', LinearProbe, pooling='max', classifier='mlp'
        ),
        'fusion-self-all-avg': _fusion('Self-attention, all tokens, avg', SelfAttentionFusion),
        'fusion-self-all-max': _fusion(
            'Self-attention, all tokens, max', SelfAttentionFusion, pooling='max'
        ),
        'fusion-self-cls-avg': _fusion(
            'Self-attention, CLS tokens, avg', SelfAttentionFusion, attends_to='cls'
        ),
        'fusion-self-cls-max': _fusion(
            'Self-attention, CLS tokens, max',
            SelfAttentionFusion,
            attends_to='cls',
            pooling='max',
        ),
        'fusion-self-weighted': _fusion(
            'Weighted self-attention',
            SelfAttentionFusion,
            attends_to='cls',
            pooling='weighted',
        ),
        'fusion-cross-all': _fusion('Cross-attention, all tokens', AttentiveProbe),
        'fusion-cross-cls': _fusion(
            'Cross-attention, CLS tokens', AttentiveProbe, attends_to='cls'
        ),
        'fusion-tcn': _fusion('Temporal convolution network', TcnFusion),
        'fusion-lstm': _fusion('Long short-term memory', LstmFusion),
    }
)


def head_entry(name: str) -> HeadEntry:
    """Return the registry's entry for a name.

    Raises:
        ValueError: The name is unknown; lists the names.
    """
    if name not in HEADS:
        raise ValueError(f'head {name!r} is unknown; expected one of {", ".join(HEADS)}')
    return HEADS[name]


def create_head(
    name: str, *, width: int, frames: int, tokens: int, classes: int, **options: Any
) -> Head:
    """Build a new head.

    Args:
        name: Its name in `HEADS`.
        width: Channels of a token (d).
        frames: Frames in a window (T).
        tokens: Patches of a frame (n).
        classes: Number of labels (k).
        options: Options that differ from the entry's defaults.

    Raises:
        ValueError: The name, an option or its value is unknown or does not fit; lists the valid
            ones.
    """
    entry = head_entry(name)
    known = entry.options
    for option in options:
        if option not in known:
            raise ValueError(
                f'head {name!r} has no option {option!r}; its options and their defaults are '
                + ', '.join(f'{key}={value!r}' for key, value in known.items())
            )
    chosen = known | options
    given: dict[str, Any] = {'width': width, 'frames': frames, 'classes': classes}
    if 'tokens' in inspect.signature(entry.build.__init__).parameters:
        given['tokens'] = tokens
    try:
        head = entry.build(**given, **chosen)
    except (ValueError, TypeError) as error:
        raise ValueError(f'head {name!r}: {error}') from error
    head.name, head.options = name, chosen
    return head


def consumed_tokens(name: str, **options: Any) -> TokenKind:
    """Return the kind of tokens that a head consumes, without knowing its sizes.

    Raises:
        ValueError: The name or an option is unknown; lists the valid ones.
    """
    # The number of attention heads may not divide the width of this placeholder.
    others = {key: value for key, value in options.items() if key != 'attention_heads'}
    with torch.device('meta'):
        return create_head(name, width=64, frames=1, tokens=1, classes=1, **others).consumes
