"""The tabletop's vocabulary: its actions, tasks, labels and counterparts."""

from __future__ import annotations

from dataclasses import dataclass

PICKABLES = ('cup', 'bottle', 'screwdriver')


@dataclass(frozen=True)
class ActionSpec:
    """How an action is named in every task and which motion it plays.

    Attributes:
        action: Label in the task `action`.
        verb: Label in the task `verb`.
        object: Label in the task `object`.
        motion: The motion it plays; the two actions of a pair name the same one.
        backward: Whether it plays that motion from its end to its beginning.
        counterpart: The nearly symmetric partner's `action` label, or None.
    """

    action: str
    verb: str
    object: str
    motion: str
    backward: bool = False
    counterpart: str | None = None


def _pair(forward: tuple[str, str], backward: tuple[str, str], thing: str) -> list[ActionSpec]:
    """Two actions that pass through the same kinds of frames in opposite order."""
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
"""Labels of every task, in the order a head's outputs have."""

COUNTERPARTS: dict[str, dict[str, str]] = {
    'action': {s.action: s.counterpart for s in _SPECS if s.counterpart is not None},
    'verb': {s.verb: ACTIONS[s.counterpart].verb for s in _SPECS if s.counterpart is not None},
    'object': {},
}
"""Per task, every label that has a nearly symmetric partner and that partner, both ways."""


def spec_of(action: str) -> ActionSpec:
    """Looks an action up by its label.

    Args:
        action: A label of the task `action`.

    Returns:
        The action's specification.

    Raises:
        ValueError: If there is no such action.
    """
    try:
        return ACTIONS[action]
    except KeyError:
        raise ValueError(f'unknown action {action!r}, known are {list(ACTIONS)}') from None


def labels_of(action: str) -> dict[str, str]:
    """Gives the label of every task for an action.

    Args:
        action: A label of the task `action`.

    Returns:
        Task name to label, in the order of `TASKS`.
    """
    spec = spec_of(action)
    return {'action': spec.action, 'verb': spec.verb, 'object': spec.object}
