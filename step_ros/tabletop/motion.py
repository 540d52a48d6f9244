# SPDX-License-Identifier: Apache-2.0
"""Motions: the hand moves from knot to knot and carries a thing along.

One action of a pair plays a motion forward, the other one backward. A motion is a function of time
alone, without memory, so both directions pass through exactly the same states.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.scene import (
    MOVABLES,
    HandPose,
    Layout,
    Place,
    Pose,
    SceneState,
    World,
    sits_on_base,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion of one action between two resting worlds.

    Attributes:
        times: Times of the knots in seconds, from 0 to the duration.
        poses_k7: Pose of the hand at each knot.
        lifts_k3: Offset of the middle of each stretch between two knots from the straight line,
            in metres.
        thing: The thing that the hand carries, or None.
        grasped: Time in seconds at which the hand grasps the thing.
        released: Time in seconds at which the hand releases the thing.
        before: The world at time 0.
        after: The world at the end.
        sway: Amplitude of the hand's drift in metres.
        sway_phase: Phase of that drift in radians.
    """

    times: tuple[float, ...]
    poses_k7: Floats
    lifts_k3: Floats
    thing: str | None
    grasped: float
    released: float
    before: World
    after: World
    sway: float = 0.0
    sway_phase: float = 0.0

    @property
    def duration_s(self) -> float:
        """Seconds from the first knot to the last."""
        return self.times[-1]

    def hand_at(self, time_s: float) -> HandPose:
        """Return the hand's pose at a moment.

        Args:
            time_s: Seconds since the first knot.
        """
        last = len(self.times) - 2
        k = min(max(bisect_right(self.times, time_s) - 1, 0), last)
        begin, end = self.times[k], self.times[k + 1]
        u = min(1.0, max(0.0, (time_s - begin) / (end - begin)))
        # Minimum jerk along the stretch. The lift is flat in the middle and steep at the ends, so
        # that things are lifted before they travel.
        u = u * u * u * (10.0 + u * (6.0 * u - 15.0))
        pose = self.poses_k7[k] + u * (self.poses_k7[k + 1] - self.poses_k7[k])
        pose[:3] += (1.0 - (2.0 * u - 1.0) ** 4) * self.lifts_k3[k]
        if self.sway:
            fade = self.sway * math.sin(math.pi * min(1.0, max(0.0, time_s / self.duration_s)))
            angle = 2.6 * time_s + self.sway_phase
            pose[0] += fade * math.sin(angle)
            pose[1] += fade * math.sin(1.7 * angle)
            pose[2] += 0.4 * fade * math.cos(1.3 * angle)
        return HandPose(*pose.tolist())

    def state_at(self, time_s: float, layout: Layout) -> SceneState:
        """Return the scene's state at a moment.

        Args:
            time_s: Seconds since the first knot.
            layout: The fixed things of the scene.
        """
        hand = self.hand_at(time_s)
        held = self.thing if self.grasped <= time_s <= self.released else None
        world = self.before if time_s < self.grasped else self.after
        drawer, dial = world.drawer, world.dial
        if held == 'drawer':
            drawer = layout.drawer_extension(hand)
        elif held == 'dial':
            dial = self.before.dial + hand.yaw - self._grasp_yaw
        poses = {name: self._pose_of(name, hand, held, world) for name in MOVABLES}
        return SceneState(
            hand=hand,
            held=held,
            poses=poses,
            drawer_extension=drawer,
            dial_angle=dial,
            gear_attached=sits_on_base(poses['gear'], layout),
        )

    @property
    def _grasp_yaw(self) -> float:
        return self.hand_at(self.grasped).yaw

    def _pose_of(self, name: str, hand: HandPose, held: str | None, world: World) -> Pose:
        if name == held:
            return Pose.held(name, hand)
        return Pose.resting(world.places[name])


@dataclass
class MotionBuilder:
    """Collects the knots of a motion one after another.

    Attributes:
        before: The world in which the motion begins.
    """

    before: World
    _times: list[float] = field(default_factory=lambda: [0.0])
    _poses: list[HandPose] = field(default_factory=list)
    _lifts: list[tuple[float, float, float]] = field(default_factory=list)
    _grasped: float = math.inf
    _released: float = -math.inf

    def __post_init__(self) -> None:
        self._poses.append(self.before.hand)

    def move(
        self,
        pose: HandPose,
        seconds: float,
        lift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Move the hand from rest to rest.

        Args:
            pose: Pose at the end of the move.
            seconds: Duration of the move.
            lift: Offset of the middle of the path from the straight line, in metres.
        """
        self._times.append(self._times[-1] + seconds)
        self._poses.append(pose)
        self._lifts.append(lift)

    def pause(self, seconds: float) -> None:
        """Keep the hand still.

        Args:
            seconds: Duration; 0 or less adds no knot.
        """
        if seconds > 0.0:
            self.move(self._poses[-1], seconds)

    def grasp(self) -> None:
        """Grasp the thing now."""
        self._grasped = self._times[-1]

    def release(self) -> None:
        """Release the thing now."""
        self._released = self._times[-1]

    def held_throughout(self) -> None:
        """Hold the thing from before the beginning until after the end."""
        self._grasped, self._released = -math.inf, math.inf

    def held_to_the_end(self) -> None:
        """Never release the thing."""
        self._released = math.inf

    def build(
        self,
        after: World,
        thing: str | None = None,
        *,
        sway: float = 0.0,
        sway_phase: float = 0.0,
    ) -> Motion:
        """Return the motion through all knots.

        Args:
            after: The world at the end; the last knot replaces its hand.
            thing: The thing that the hand carries, or None.
            sway: Amplitude of the hand's drift in metres.
            sway_phase: Phase of that drift in radians.
        """
        return Motion(
            times=tuple(self._times),
            poses_k7=np.stack([pose.array for pose in self._poses]),
            lifts_k3=np.array(self._lifts),
            thing=thing,
            grasped=self._grasped,
            released=self._released,
            before=self.before,
            after=replace(after, hand=self._poses[-1]),
            sway=sway,
            sway_phase=sway_phase,
        )


def opened(pose: HandPose, opening: float) -> HandPose:
    """Return the same pose with another opening of the hand.

    Args:
        pose: Pose of the hand.
        opening: 0 is a fist, 1 is wide open.
    """
    return replace(pose, opening=opening)


def between(first: HandPose, second: HandPose, share: float, lift: float = 0.0) -> HandPose:
    """Return a pose on the straight line between two poses.

    Args:
        first: Pose at the start of the line.
        second: Pose at its end.
        share: Position on the line, 0 at the start and 1 at the end.
        lift: Metres to add to the height.
    """
    pose = first.array + share * (second.array - first.array)
    pose[2] += lift
    return HandPose(*pose.tolist())


def natural_yaw(x: float, y: float) -> float:
    """Return the yaw of a right hand that reaches a point without bending the wrist.

    Args:
        x: Metres to the person's right.
        y: Metres away from the person.

    Returns:
        Radians about z.
    """
    return math.atan2(0.20 - x, y + 0.62)


def place_at(x: float, y: float, z: float = 0.0, turn: float = 0.0) -> Place:
    """Return a place that is turned so that the hand reaches it without bending the wrist.

    Args:
        x: Metres to the person's right.
        y: Metres away from the person.
        z: Metres above the table.
        turn: Radians added to the natural yaw.
    """
    return x, y, z, natural_yaw(x, y) + turn
