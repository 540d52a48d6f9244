# SPDX-License-Identifier: Apache-2.0
"""Resting worlds: random worlds, and the worlds before and after an action."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from step_ros.tabletop.motion import place_at
from step_ros.tabletop.scene import GRASPS, HandPose, Layout, Place, World
from step_ros.tabletop.vocabulary import PICKABLES, ActionSpec


def draw_home(rng: np.random.Generator) -> HandPose:
    """Draw a resting pose of the empty hand.

    Args:
        rng: Source of randomness.

    Returns:
        A pose above the table's edge on the person's side.
    """
    dx, dy, turn, tilt, opening = rng.uniform(-1.0, 1.0, 5).tolist()
    return HandPose(
        0.09 + 0.03 * dx,
        -0.27 + 0.02 * dy,
        0.02,
        yaw=0.25 + 0.2 * turn,
        pitch=-0.12 + 0.08 * tilt,
        roll=0.15,
        opening=0.72 + 0.1 * opening,
    )


def draw_carry(thing: str, rng: np.random.Generator) -> HandPose:
    """Draw a pose of the hand that holds a picked-up thing.

    Args:
        thing: One of `PICKABLES`.
        rng: Source of randomness.

    Returns:
        A pose in front of the person, well above the table.
    """
    dx, dy, dz, turn, tilt = rng.uniform(-1.0, 1.0, 5).tolist()
    grasp = GRASPS[thing]
    return HandPose(
        0.07 + 0.03 * dx,
        -0.17 + 0.025 * dy,
        0.23 + 0.02 * dz + 0.5 * grasp.height,
        yaw=0.35 + 0.15 * turn,
        pitch=grasp.pitch + 0.12 * tilt,
        roll=grasp.roll,
        opening=grasp.opening,
    )


def draw_spot(thing: str, layout: Layout, rng: np.random.Generator) -> Place:
    """Draw a resting place of a movable thing on the table.

    Args:
        thing: One of `PICKABLES`, `gear` or `cloth`.
        layout: The fixed things of the scene.
        rng: Source of randomness.

    Returns:
        A place in the thing's region.
    """
    x, y = layout.spots[thing]
    dx, dy, turn = rng.uniform(-1.0, 1.0, 3).tolist()
    return place_at(x + 0.025 * dx, y + 0.025 * dy, turn=0.25 * turn)


def draw_box(right: bool, layout: Layout, rng: np.random.Generator) -> Place:
    """Draw a resting place of the box.

    Args:
        right: Whether the box was pushed to the right.
        layout: The fixed things of the scene.
        rng: Source of randomness.

    Returns:
        A place at the right or the left end of its path.
    """
    dx, dy, turn = rng.uniform(-1.0, 1.0, 3).tolist()
    x = layout.box_range[int(right)] + 0.02 * dx
    return x, layout.spots['box'][1] + 0.012 * dy, 0.0, 0.25 + 0.12 * turn


def draw_world(layout: Layout, rng: np.random.Generator) -> World:
    """Draw a resting world with an empty hand.

    Args:
        layout: The fixed things of the scene.
        rng: Source of randomness.

    Returns:
        The world.
    """
    attached, right, is_open = (rng.random(3) < 0.5).tolist()
    places = {name: draw_spot(name, layout, rng) for name in (*PICKABLES, 'cloth')}
    gear = draw_spot('gear', layout, rng)
    places['gear'] = layout.gear_on_base if attached else gear
    places['box'] = draw_box(right, layout, rng)
    return World(
        hand=draw_home(rng),
        held=None,
        places=places,
        drawer=_draw_open(rng) if is_open else 0.0,
        dial=float(rng.uniform(-math.pi, math.pi)),
        gear_attached=attached,
        box_right=right,
    )


def _draw_open(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.85, 1.0))


def is_possible(spec: ActionSpec, world: World) -> bool:
    """Return whether an action can happen in a world.

    Args:
        spec: The action.
        world: The world at the beginning of the action.

    Returns:
        True if, for example, the hand is free and the drawer to open is closed.
    """
    if world.held is not None:
        return spec.action == 'idle' or (spec.motion == world.held and spec.backward)
    if spec.motion in PICKABLES:
        return not spec.backward
    if spec.motion == 'drawer':
        return spec.backward == (world.drawer > 0.0)
    if spec.motion == 'box':
        return spec.backward != world.box_right
    if spec.motion == 'gear':
        return spec.backward == world.gear_attached
    return True


def make_holding(world: World, rng: np.random.Generator) -> World:
    """Put a pickable thing into the hand.

    Args:
        world: A world with an empty hand.
        rng: Source of randomness.

    Returns:
        The world in which the hand holds the thing.
    """
    thing = str(rng.choice(PICKABLES))
    return replace(world, hand=draw_carry(thing, rng), held=thing)


def make_possible(
    spec: ActionSpec, world: World, layout: Layout, rng: np.random.Generator
) -> World:
    """Change a world so that the action's motion, played forward, can begin in it.

    Args:
        spec: The action; both actions of a pair get the same world.
        world: A world with an empty hand.
        layout: The fixed things of the scene.
        rng: Source of randomness.

    Returns:
        The changed world.
    """
    if spec.motion == 'drawer':
        return replace(world, drawer=0.0)
    if spec.motion == 'box':
        places = {**world.places, 'box': draw_box(True, layout, rng)}
        return replace(world, places=places, box_right=True)
    if spec.motion == 'gear':
        places = {**world.places, 'gear': draw_spot('gear', layout, rng)}
        return replace(world, places=places, gear_attached=False)
    return world


def other_end(spec: ActionSpec, world: World, layout: Layout, rng: np.random.Generator) -> World:
    """Draw the world at the end of an action.

    Args:
        spec: The action.
        world: The world at its beginning.
        layout: The fixed things of the scene.
        rng: Source of randomness.

    Returns:
        The world at its end.
    """
    thing, home = spec.motion, draw_home(rng)
    if thing in PICKABLES:
        if world.held is None:
            return replace(world, hand=draw_carry(thing, rng), held=thing)
        places = {**world.places, thing: draw_spot(thing, layout, rng)}
        return replace(world, hand=home, held=None, places=places)
    if thing == 'idle' and world.held is not None:
        return replace(world, hand=draw_carry(world.held, rng))
    world = replace(world, hand=home)
    if thing == 'drawer':
        return replace(world, drawer=0.0 if world.drawer > 0.0 else _draw_open(rng))
    if thing == 'box':
        places = {**world.places, 'box': draw_box(not world.box_right, layout, rng)}
        return replace(world, places=places, box_right=not world.box_right)
    if thing == 'gear':
        spot = draw_spot('gear', layout, rng)
        place = spot if world.gear_attached else layout.gear_on_base
        places = {**world.places, 'gear': place}
        return replace(world, places=places, gear_attached=not world.gear_attached)
    if thing == 'wipe':
        return replace(world, places={**world.places, 'cloth': draw_spot('cloth', layout, rng)})
    if thing == 'dial':
        turn = math.radians(float(rng.uniform(70.0, 125.0))) * float(rng.choice([-1.0, 1.0]))
        return replace(world, dial=world.dial + turn)
    return world
