# SPDX-License-Identifier: Apache-2.0
"""Plan a motion between two resting worlds; both actions of a pair share one generator.

Every generator plans from world `a` to world `b`. An action that plays its pair's motion backward
swaps the two: it is planned from its final world to its initial world, with the same generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from step_ros.tabletop.motion import Motion, MotionBuilder, between, natural_yaw, opened
from step_ros.tabletop.scene import GRASPS, HandPose, Layout, World
from step_ros.tabletop.vocabulary import PICKABLES, ActionSpec

LONGEST_PAUSE_S = 0.3
_SHORTEST_MAIN_S = 0.55


def plan(
    spec: ActionSpec,
    a: World,
    b: World,
    duration_s: float,
    layout: Layout,
    rng: np.random.Generator,
) -> Motion:
    """Plan the motion of an action.

    Args:
        spec: The action.
        a: The world at the beginning of the motion, played forward.
        b: The world at its end.
        duration_s: Duration in seconds, pauses included.
        layout: The fixed things of the scene.
        rng: Source of randomness.

    Returns:
        The motion, to be played backward if the action's `backward` is set.
    """
    generator = _GENERATORS.get(spec.motion)
    if generator is not None:
        return generator(a, b, duration_s, layout, rng)
    return _handle(spec.motion, a, b, duration_s, layout, rng)


class Budget:
    """Random durations of an action's parts; both ends have the same distributions.

    Attributes:
        reach: Seconds from the home pose to the thing and, if the hand retreats, back.
        grip: Seconds to close the hand and, if it retreats, to open it.
        pauses: Seconds of rest before, within and after the main part; 0 for no pause.
        main: Seconds of the main part.
    """

    def __init__(self, duration_s: float, rng: np.random.Generator, *, retreats: bool) -> None:
        """Draw the durations of the parts.

        Args:
            duration_s: Duration of the action in seconds.
            rng: Source of randomness.
            retreats: Whether the hand goes back to its home pose at the end.
        """
        slack = 0.1 * (duration_s - 1.8)
        ends = 2 if retreats else 1
        self.reach = [0.40 + slack + float(rng.uniform(0.0, 0.08)) for _ in range(ends)]
        self.grip = [float(rng.uniform(0.10, 0.15)) for _ in range(ends)]
        self.pauses = [0.0, 0.0, 0.0]
        left = duration_s - sum(self.reach) - sum(self.grip)
        for index in rng.permutation(3)[: int(rng.integers(0, 3))].tolist():
            pause = min(float(rng.uniform(0.08, LONGEST_PAUSE_S)), left - _SHORTEST_MAIN_S)
            if pause > 0.05:
                self.pauses[index] = pause
                left -= pause
        self.main = left


def _handle(
    thing: str,
    a: World,
    b: World,
    duration_s: float,
    layout: Layout,
    rng: np.random.Generator,
) -> Motion:
    """Plan to grasp a thing and to move it as the two worlds say."""
    keeps = thing in PICKABLES
    if thing == 'drawer':
        grasp = GRASPS['drawer']
        start = grasp.hand_at(layout.drawer_handle(a.drawer))
        end = grasp.hand_at(layout.drawer_handle(b.drawer))
    else:
        start = GRASPS[thing].hand_at(a.places[thing])
        end = b.hand if keeps else GRASPS[thing].hand_at(b.places[thing])
    lift = {'drawer': 0.0, 'box': 0.0, 'gear': 0.11}.get(thing, 0.03)
    return carry(thing, a, b, (start, end), duration_s, rng, lift=lift, keeps=keeps)


def carry(
    thing: str,
    a: World,
    b: World,
    way: tuple[HandPose, HandPose],
    duration_s: float,
    rng: np.random.Generator,
    *,
    lift: float,
    keeps: bool = False,
) -> Motion:
    """Plan to reach a thing, grasp it, move it and, unless the hand keeps it, return home.

    Args:
        thing: The thing to move.
        a: The world at the beginning of the motion, played forward.
        b: The world at its end.
        way: Pose of the hand at the grasp, and at the end of the main part.
        duration_s: Duration in seconds, pauses included.
        rng: Source of randomness.
        lift: Height of the middle of the path above the straight line, in metres.
        keeps: Whether the thing stays in the hand.

    Returns:
        The motion.
    """
    budget = Budget(duration_s, rng, retreats=not keeps)
    start, end = way
    builder = MotionBuilder(a)
    approach(builder, start, budget.reach[0], budget.grip[0], rng)
    builder.pause(budget.pauses[0])
    share = float(rng.uniform(0.35, 0.65))
    if budget.pauses[1] > 0.0:
        builder.move(between(start, end, share, lift), share * budget.main)
        builder.pause(budget.pauses[1])
        builder.move(end, (1.0 - share) * budget.main)
    else:
        builder.move(end, budget.main, (0.0, 0.0, lift))
    builder.pause(budget.pauses[2])
    if keeps:
        builder.held_to_the_end()
    else:
        retreat(builder, end, b.hand, budget.reach[1], budget.grip[1], rng)
    return builder.build(b, thing)


def approach(
    builder: MotionBuilder,
    grasp: HandPose,
    reach_s: float,
    grip_s: float,
    rng: np.random.Generator,
) -> None:
    """Open the hand on the way to a thing and close it there.

    Args:
        builder: The builder that gets the knots.
        grasp: Pose of the hand that holds the thing.
        reach_s: Seconds to reach the thing.
        grip_s: Seconds to close the hand.
        rng: Source of randomness.
    """
    spread = opened(grasp, min(1.0, grasp.opening + 0.38))
    builder.move(spread, reach_s, _reach_lift(rng))
    builder.move(grasp, grip_s)
    builder.grasp()


def retreat(
    builder: MotionBuilder,
    grasp: HandPose,
    home: HandPose,
    reach_s: float,
    grip_s: float,
    rng: np.random.Generator,
) -> None:
    """Open the hand and return home: the mirror image of `approach`.

    Args:
        builder: The builder that gets the knots.
        grasp: Pose of the hand that holds the thing.
        home: Pose of the hand at the end.
        reach_s: Seconds to return home.
        grip_s: Seconds to open the hand.
        rng: Source of randomness.
    """
    builder.release()
    builder.move(opened(grasp, min(1.0, grasp.opening + 0.38)), grip_s)
    builder.move(home, reach_s, _reach_lift(rng))


def _reach_lift(rng: np.random.Generator) -> tuple[float, float, float]:
    x, y = rng.uniform(-0.03, 0.03, 2).tolist()
    return x, y, float(rng.uniform(0.06, 0.11))


def _wipe(
    a: World, b: World, duration_s: float, layout: Layout, rng: np.random.Generator
) -> Motion:
    budget = Budget(duration_s, rng, retreats=True)
    grasp = GRASPS['cloth']
    start, end = (grasp.hand_at(world.places['cloth']) for world in (a, b))
    builder = MotionBuilder(a)
    approach(builder, start, budget.reach[0], budget.grip[0], rng)
    seconds = budget.main + sum(budget.pauses)
    strokes = max(2, round(seconds / float(rng.uniform(0.28, 0.36))))
    side = float(rng.choice([-1.0, 1.0]))
    x, y = layout.spots['cloth']
    for k in range(strokes - 1):
        dx, dy = rng.uniform((0.09, -0.03), (0.14, 0.03)).tolist()
        there = start.array
        there[:2] = x + side * dx * (-1.0) ** k, y - 0.01 + dy
        builder.move(HandPose(*there.tolist()), seconds / strokes)
    builder.move(end, seconds / strokes)
    retreat(builder, end, b.hand, budget.reach[1], budget.grip[1], rng)
    return builder.build(b, 'cloth')


def _wave(
    a: World, b: World, duration_s: float, layout: Layout, rng: np.random.Generator
) -> Motion:
    del layout
    budget = Budget(duration_s, rng, retreats=True)
    dx, dy, dz = rng.uniform(-0.03, 0.03, 3).tolist()
    reach = float(rng.uniform(0.07, 0.11))
    raised = HandPose(0.17 + dx, -0.20 + dy, 0.32 + dz, 0.0, 1.45, 0.0, 0.97)
    first = float(rng.choice([-1.0, 1.0]))

    def swung(side: float) -> HandPose:
        return replace(raised, x=raised.x + side * reach, yaw=-0.25 * side)

    seconds = duration_s - sum(budget.reach)
    swings = max(3, round(seconds / float(rng.uniform(0.20, 0.28))))
    builder = MotionBuilder(a)
    builder.move(swung(first), budget.reach[0])
    for k in range(swings):
        builder.move(swung(-first * (-1.0) ** k), seconds / swings)
    builder.move(b.hand, budget.reach[1])
    return builder.build(b)


def _dial(
    a: World, b: World, duration_s: float, layout: Layout, rng: np.random.Generator
) -> Motion:
    budget = Budget(duration_s, rng, retreats=True)
    x, y, z, _ = layout.dial_top
    turn = b.dial - a.dial
    middle = natural_yaw(x, y)
    start = GRASPS['dial'].hand_at((x, y, z, middle - turn / 2))
    end = GRASPS['dial'].hand_at((x, y, z, middle + turn / 2))
    builder = MotionBuilder(a)
    approach(builder, start, budget.reach[0], budget.grip[0], rng)
    seconds = budget.main + sum(budget.pauses)
    if rng.random() < 0.5:
        builder.move(end, seconds)
    else:
        # Turn too far, then back to the target angle.
        share = float(rng.uniform(0.5, 0.7))
        beyond = between(start, end, float(rng.uniform(1.15, 1.35)))
        builder.move(beyond, share * seconds)
        builder.move(end, (1.0 - share) * seconds)
    retreat(builder, end, b.hand, budget.reach[1], budget.grip[1], rng)
    return builder.build(b, 'dial')


def _idle(
    a: World, b: World, duration_s: float, layout: Layout, rng: np.random.Generator
) -> Motion:
    del layout
    builder = MotionBuilder(a)
    kind = float(rng.random())
    if a.held is not None:
        builder.held_throughout()
    if a.held is None and kind < 0.2:
        # The hand goes into the lap, below the table's edge, and back.
        lap = HandPose(0.14, -0.50, -0.10, 0.2, -0.2, 0.2, 0.6)
        slide = float(rng.uniform(0.5, 0.7))
        builder.move(lap, slide, (0.0, 0.0, 0.03))
        builder.pause(duration_s - 2.0 * slide)
        builder.move(b.hand, slide, (0.0, 0.0, 0.03))
    else:
        builder.move(b.hand, duration_s)
    sway = float(rng.uniform(0.0, 0.006) if kind < 0.7 else rng.uniform(0.008, 0.02))
    phase = float(rng.uniform(0.0, 2.0 * math.pi))
    return builder.build(b, a.held, sway=sway, sway_phase=phase)


_GENERATORS: Mapping[str, Callable[[World, World, float, Layout, np.random.Generator], Motion]] = {
    'wipe': _wipe,
    'wave': _wave,
    'dial': _dial,
    'idle': _idle,
}
