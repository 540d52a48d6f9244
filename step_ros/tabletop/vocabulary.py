# SPDX-License-Identifier: Apache-2.0
"""The tabletop's vocabulary: its actions, tasks, labels and counterparts."""

from __future__ import annotations

from dataclasses import dataclass

PICKABLES = ('cup', 'bottle', 'screwdriver')


@dataclass(frozen=True)
class ActionSpec:
    """An action: its label in every task, and its motion.

    Attributes:
        action: Label in the task `action`.
        verb: Label in the task `verb`.
        object: Label in the task `object`.
        motion: Name of the motion; both actions of a pair name the same motion.
        backward: Whether the motion is played from its end to its beginning.
        counterpart: The nearly symmetric partner's `action` label, or None.
    """

    action: str
    verb: str
    object: str
    motion: str
    backward: bool = False
    counterpart: str | None = None


def _pair(forward: tuple[str, str], backward: tuple[str, str], thing: str) -> list[ActionSpec]:
    """Return two actions that play one motion in opposite directions."""
    (forward_action, forward_verb), (backward_action, backward_verb) = forward, backward
    return [
        ActionSpec(forward_action, forward_verb, thing, thing, False, backward_action),
        ActionSpec(backward_action, backward_verb, thing, thing, True, forward_action),
    ]


def _verb_pair(forward: str, backward: str, thing: str) -> list[ActionSpec]:
    return _pair((f'{forward} {thing}', forward), (f'{backward} {thing}', backward), thing)


_SPECS = [
    *(spec for thing in PICKABLES for spec in _verb_pair('pick up', 'lay down', thing)),
    *_verb_pair('open', 'close', 'drawer'),
    *_verb_pair('push left', 'push right', 'box'),
    *_verb_pair('attach', 'detach', 'gear'),
    ActionSpec('wipe table', 'wipe', 'table', 'wipe'),
    ActionSpec('wave', 'wave', 'none', 'wave'),
    ActionSpec('rotate dial', 'rotate', 'dial', 'dial'),
    ActionSpec('idle', 'idle', 'none', 'idle'),
]

ACTIONS: dict[str, ActionSpec] = {spec.action: spec for spec in _SPECS}
"""Every action by its label, in the fixed order of the task `action`."""

TASKS: dict[str, tuple[str, ...]] = {
    'action': tuple(ACTIONS),
    'verb': tuple(dict.fromkeys(spec.verb for spec in _SPECS)),
    'object': tuple(dict.fromkeys([*(s.object for s in _SPECS if s.object != 'none'), 'none'])),
}
"""Labels of every task, in the order of a head's outputs."""

COUNTERPARTS: dict[str, dict[str, str]] = {
    'action': {s.action: s.counterpart for s in _SPECS if s.counterpart is not None},
    'verb': {s.verb: ACTIONS[s.counterpart].verb for s in _SPECS if s.counterpart is not None},
    'object': {},
}
"""For each task, the counterpart of every label that has one, in both directions."""


def spec_of(action: str) -> ActionSpec:
    """Return the specification of an action.

    Args:
        action: A label of the task `action`.

    Raises:
        ValueError: There is no action of this label.
    """
    try:
        return ACTIONS[action]
    except KeyError:
        raise ValueError(f'unknown action {action!r}; expected one of {list(ACTIONS)}') from None


def labels_of(action: str) -> dict[str, str]:
    """Return the label of every task for an action.

    Args:
        action: A label of the task `action`.

    Returns:
        The labels by task, in the order of `TASKS`.
    """
    spec = spec_of(action)
    return {'action': spec.action, 'verb': spec.verb, 'object': spec.object}
