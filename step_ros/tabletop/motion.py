"""How the hand moves from knot to knot, and what it takes along.

A motion is played forward or, by the other action of a pair, backward: it is a function of time
alone, without any memory, so that both directions pass through exactly the same states.
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
    """One action's course between two resting worlds.

    Attributes:
        times: Seconds of the knots, from 0 to the duration.
        poses_k7: The hand at the knots.
        lifts_k3: Per stretch between knots, how far its middle bows aside, in metres.
        thing: What the hand takes along, or None.
        grasped: Seconds from which it is in the hand.
        released: Seconds until which it is in the hand.
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
        """The hand at a moment.

        Args:
            time_s: Seconds since the first knot.

        Returns:
            The hand's pose.
        """
        last = len(self.times) - 2
        k = min(max(bisect_right(self.times, time_s) - 1, 0), last)
        begin, end = self.times[k], self.times[k + 1]
        u = min(1.0, max(0.0, (time_s - begin) / (end - begin)))
        # Minimum jerk along the stretch; the bow is flat in the middle and steep at its ends,
        # so that things are lifted before they travel.
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
        """The scene at a moment.

        Args:
            time_s: Seconds since the first knot.
            layout: What stays where it is.

        Returns:
            The scene's state.
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
    """Collects knots one after another.

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
        """Moves the hand, from rest to rest.

        Args:
            pose: Where it arrives.
            seconds: How long it takes.
            lift: How far the middle of the way bows aside, in metres.
        """
        self._times.append(self._times[-1] + seconds)
        self._poses.append(pose)
        self._lifts.append(lift)

    def pause(self, seconds: float) -> None:
        """Keeps the hand still.

        Args:
            seconds: How long; nothing happens if it is not positive.
        """
        if seconds > 0.0:
            self.move(self._poses[-1], seconds)

    def grasp(self) -> None:
        """From now on the thing is in the hand."""
        self._grasped = self._times[-1]

    def release(self) -> None:
        """From now on the thing is no longer in the hand."""
        self._released = self._times[-1]

    def held_throughout(self) -> None:
        """The thing is in the hand from before the beginning until after the end."""
        self._grasped, self._released = -math.inf, math.inf

    def held_to_the_end(self) -> None:
        """The thing stays in the hand."""
        self._released = math.inf

    def build(
        self,
        after: World,
        thing: str | None = None,
        *,
        sway: float = 0.0,
        sway_phase: float = 0.0,
    ) -> Motion:
        """Makes the motion.

        Args:
            after: The world it ends in; its hand becomes the last knot's.
            thing: What the hand takes along.
            sway: Amplitude of the hand's drift in metres.
            sway_phase: Phase of that drift in radians.

        Returns:
            The motion through all knots.
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
    """The same pose with another opening of the hand.

    Args:
        pose: Where the hand is.
        opening: 0 is a fist, 1 is wide open.

    Returns:
        The changed pose.
    """
    return replace(pose, opening=opening)


def between(first: HandPose, second: HandPose, share: float, lift: float = 0.0) -> HandPose:
    """A pose on the straight way between two.

    Args:
        first: Where the way begins.
        second: Where it ends.
        share: How much of the way is behind, 0 to 1.
        lift: Metres to add to the height.

    Returns:
        The pose on the way.
    """
    pose = first.array + share * (second.array - first.array)
    pose[2] += lift
    return HandPose(*pose.tolist())


def natural_yaw(x: float, y: float) -> float:
    """The yaw with which a right hand reaches for a point without bending the wrist.

    Args:
        x: Metres to the person's right.
        y: Metres away from the person.

    Returns:
        Radians about z.
    """
    return math.atan2(0.20 - x, y + 0.62)


def place_at(x: float, y: float, z: float = 0.0, turn: float = 0.0) -> Place:
    """A place turned so that the hand reaches it naturally.

    Args:
        x: Metres to the person's right.
        y: Metres away from the person.
        z: Metres above the table.
        turn: Radians added to the natural yaw.

    Returns:
        The place.
    """
    return x, y, z, natural_yaw(x, y) + turn
