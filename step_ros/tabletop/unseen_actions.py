# SPDX-License-Identifier: Apache-2.0
"""Unseen actions: actions of the tabletop that no shipped model knows, for few-shot learning.

They happen in the same scenes as the tabletop's actions (`vocabulary.TASKS`) but are not among
them. The two unseen actions of a pair also play one motion in opposite order, so that only the
order of the frames tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from step_ros.tabletop.clips import Clip, Stage, film
from step_ros.tabletop.geometry import Camera
from step_ros.tabletop.motion import Motion, MotionBuilder, natural_yaw, place_at
from step_ros.tabletop.planner import Budget, approach, carry, retreat
from step_ros.tabletop.scene import GRASPS, HandPose, Layout, Place, World
from step_ros.tabletop.splits import draw_duration, random_for
from step_ros.tabletop.vocabulary import PICKABLES
from step_ros.tabletop.worlds import draw_home, draw_spot, draw_world

UNSEEN_TASK = 'unseen_action'
"""Name of the task whose labels are the unseen actions."""


@dataclass(frozen=True)
class UnseenAction:
    """An unseen action: its label, its motion and its counterpart.

    Attributes:
        label: Label in the task `UNSEEN_TASK`.
        motion: Name of the motion; both actions of a pair name the same motion.
        backward: Whether the motion is played from its end to its beginning.
        counterpart: The nearly symmetric partner's label, or None.
    """

    label: str
    motion: str
    backward: bool = False
    counterpart: str | None = None


def _pair(forward: str, backward: str, motion: str) -> list[UnseenAction]:
    return [
        UnseenAction(forward, motion, False, backward),
        UnseenAction(backward, motion, True, forward),
    ]


UNSEEN_ACTIONS: Mapping[str, UnseenAction] = {
    action.label: action
    for action in (
        *_pair('slide cup left', 'slide cup right', 'slide'),
        *_pair('push box away', 'pull box near', 'push'),
        *_pair('put cup on cabinet', 'take cup off cabinet', 'stow'),
        UnseenAction('pour from bottle', 'pour'),
        UnseenAction('tap table', 'tap'),
    )
}
"""Every unseen action by its label, in a fixed order."""

UNSEEN_COUNTERPARTS: Mapping[str, str] = {
    action.label: action.counterpart for action in UNSEEN_ACTIONS.values() if action.counterpart
}
"""Counterpart of every unseen action that has one, in both directions."""


def render_unseen_action(
    label: str,
    *,
    seed: int,
    split: str = 'train',
    camera: str | Camera = 'front',
    size: tuple[int, int] = (640, 480),
    rate: float = 30.0,
    noise: bool = True,
) -> Clip:
    """Render one whole unseen action in its own scene, as `render_clip` renders an action.

    Args:
        label: One of `UNSEEN_ACTIONS`.
        seed: Number of the scene within its split.
        split: One of `SPLITS`. Splits share no scene, no texture and no speed.
        camera: One of `CAMERA_NAMES`, jittered by the seed, or a camera.
        size: Width and height in pixels.
        rate: Frames per second.
        noise: Whether to add sensor noise and flicker.

    Returns:
        The clip.

    Raises:
        ValueError: An argument is unknown or out of range.
    """
    if label not in UNSEEN_ACTIONS:
        raise ValueError(f'unknown action {label!r}; expected one of {list(UNSEEN_ACTIONS)}')
    stage = Stage(seed=seed, split=split)
    return film(
        unseen_motion(label, stage.layout, seed=seed, split=split),
        stage,
        split=split,
        action=label,
        labels={UNSEEN_TASK: label},
        backward=UNSEEN_ACTIONS[label].backward,
        camera=camera,
        size=size,
        rate=rate,
        noise=noise,
    )


def unseen_motion(label: str, layout: Layout, *, seed: int, split: str) -> Motion:
    """Plan the motion of an unseen action; both actions of a pair share it.

    Args:
        label: One of `UNSEEN_ACTIONS`.
        layout: The fixed things of the scene.
        seed: Number of the scene within its split.
        split: One of `SPLITS`.

    Returns:
        The motion, to be played backward if the action's `backward` is set.
    """
    motion = UNSEEN_ACTIONS[label].motion
    world = draw_world(layout, random_for(split, seed, 'world'))
    # The purpose enters the seed: another word would change every clip.
    rng = random_for(split, seed, 'lesson', motion)
    return _MOTIONS[motion](world, draw_duration(split, rng), layout, rng)


def _slide(world: World, duration_s: float, layout: Layout, rng: np.random.Generator) -> Motion:
    """Slide the cup along the table's right half, without lifting it."""
    world, y = _cup_in_front(world, layout)
    left, right = (float(rng.uniform(*ends)) for ends in ((0.12, 0.16), (0.30, 0.36)))
    turns = rng.uniform(-0.25, 0.25, 2).tolist()
    return _move(
        'cup',
        world,
        place_at(right, y + float(rng.uniform(-0.02, 0.02)), turn=turns[0]),
        place_at(left, y + float(rng.uniform(-0.02, 0.02)), turn=turns[1]),
        duration_s,
        rng,
        lift=0.0,
    )


def _push(world: World, duration_s: float, layout: Layout, rng: np.random.Generator) -> Motion:
    """Push the box from the person's side towards the back, clear of the cabinet."""
    del layout
    x = float(rng.uniform(-0.33, -0.14))
    near = (x, float(rng.uniform(-0.26, -0.22)), 0.0, 0.25 + float(rng.uniform(-0.12, 0.12)))
    away = (
        x + float(rng.uniform(-0.02, 0.02)),
        float(rng.uniform(-0.07, -0.04)),
        0.0,
        0.25 + float(rng.uniform(-0.12, 0.12)),
    )
    return _move('box', replace(world, drawer=0.0), near, away, duration_s, rng, lift=0.0)


def _stow(world: World, duration_s: float, layout: Layout, rng: np.random.Generator) -> Motion:
    """Put the cup from the table onto the cabinet that holds the drawer."""
    world, y = _cup_in_front(world, layout)
    x, depth_y, _, _ = layout.drawer_place
    dx, dy = rng.uniform(-0.03, 0.03, 2).tolist()
    top = place_at(x + dx, depth_y + dy, layout.drawer_size[2])
    table = place_at(float(rng.uniform(0.14, 0.30)), y, turn=float(rng.uniform(-0.25, 0.25)))
    return _move('cup', replace(world, drawer=0.0), table, top, duration_s, rng, lift=0.10)


def _pour(world: World, duration_s: float, layout: Layout, rng: np.random.Generator) -> Motion:
    """Lift the bottle, tilt it to the left, and put it down again."""
    budget = Budget(duration_s, rng, retreats=True)
    grasp = GRASPS['bottle']
    end_place = draw_spot('bottle', layout, rng)
    start, end = grasp.hand_at(world.places['bottle']), grasp.hand_at(end_place)
    dx, dy, dz = rng.uniform(-0.03, 0.03, 3).tolist()
    raised = HandPose(
        0.14 + dx,
        0.02 + dy,
        0.26 + dz,
        natural_yaw(0.14, 0.02),
        grasp.pitch,
        grasp.roll,
        grasp.opening,
    )
    tilted = replace(raised, roll=raised.roll - float(rng.uniform(1.0, 1.4)))
    builder = MotionBuilder(world)
    approach(builder, start, budget.reach[0], budget.grip[0], rng)
    seconds = budget.main + sum(budget.pauses)
    shares = rng.uniform(0.8, 1.2, 4)
    for pose, share in zip((raised, tilted, raised, end), shares / shares.sum(), strict=True):
        builder.move(pose, float(share) * seconds)
    home = draw_home(rng)
    retreat(builder, end, home, budget.reach[1], budget.grip[1], rng)
    after = replace(world, hand=home, places={**world.places, 'bottle': end_place})
    return builder.build(after, 'bottle')


def _tap(world: World, duration_s: float, layout: Layout, rng: np.random.Generator) -> Motion:
    """Tap the table several times with the empty hand."""
    del layout
    budget = Budget(duration_s, rng, retreats=True)
    dx, dy = rng.uniform(-0.05, 0.05, 2).tolist()
    x, y = 0.10 + dx, -0.14 + dy
    low = HandPose(x, y, 0.02, natural_yaw(x, y), -0.25, 0.0, float(rng.uniform(0.6, 0.95)))
    high = replace(low, z=low.z + float(rng.uniform(0.09, 0.14)), pitch=0.15)
    seconds = duration_s - sum(budget.reach)
    taps = max(2, round(seconds / float(rng.uniform(0.36, 0.48))))
    builder = MotionBuilder(world)
    builder.move(high, budget.reach[0])
    for _ in range(taps):
        builder.move(low, 0.5 * seconds / taps)
        builder.move(high, 0.5 * seconds / taps)
    home = draw_home(rng)
    builder.move(home, budget.reach[1])
    return builder.build(replace(world, hand=home))


def _move(
    thing: str,
    world: World,
    start: Place,
    end: Place,
    duration_s: float,
    rng: np.random.Generator,
    *,
    lift: float,
) -> Motion:
    """Move a thing from one place to another and release it."""
    before = replace(world, places={**world.places, thing: start})
    after = replace(world, hand=draw_home(rng), places={**world.places, thing: end})
    way = GRASPS[thing].hand_at(start), GRASPS[thing].hand_at(end)
    return carry(thing, before, after, way, duration_s, rng, lift=lift)


def _cup_in_front(world: World, layout: Layout) -> tuple[World, float]:
    """Move the cup to the front one of the three spots; return the world and its y in metres."""
    front = min(PICKABLES, key=lambda thing: layout.spots[thing][1])
    places = {**world.places, front: world.places['cup'], 'cup': world.places[front]}
    return replace(world, places=places), layout.spots[front][1]


_MOTIONS: Mapping[str, Callable[[World, float, Layout, np.random.Generator], Motion]] = {
    'slide': _slide,
    'push': _push,
    'stow': _stow,
    'pour': _pour,
    'tap': _tap,
}
