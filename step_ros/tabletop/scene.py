# SPDX-License-Identifier: Apache-2.0
"""Geometry and state of a scene: poses of the hand and of things, grasps, layout and state vector.

A `Layout` holds the fixed things of a scene, a `World` its state between two actions, and a
`SceneState` its state at one moment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.vocabulary import PICKABLES

Floats = NDArray[np.float64]

Place = tuple[float, float, float, float]
"""Place of a resting thing: x, y, z in metres and yaw in radians."""

TABLE_SIZE = (1.24, 0.76)
"""Extent of the table top along x and y, in metres."""

MOVABLES = (*PICKABLES, 'box', 'gear', 'cloth')
"""Things that change their place."""

GEAR_ON_BASE_M = 0.032
"""Height of an attached gear above the table, in metres."""

# The point where the hand holds things, between thumb and fingers, relative to the palm's middle.
GRIP_POINT = np.array([0.0, 0.062, -0.046])

# A gear within this distance of its place on the peg is attached.
_ATTACHED_M = 0.01


@dataclass(frozen=True)
class HandPose:
    """Pose of the hand; its position is the point between thumb and fingers that holds things.

    Attributes:
        x: Metres to the person's right.
        y: Metres away from the person.
        z: Metres above the table.
        yaw: Radians about z; at 0 the fingers point away from the person, positive is to the left.
        pitch: Radians; positive means that the fingers point up.
        roll: Radians about the fingers; at pi / 2 the thumb is up.
        opening: 0 is a fist, 1 is wide open.
    """

    x: float
    y: float
    z: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    opening: float = 0.6

    @property
    def array(self) -> Floats:
        """All seven numbers, in the order of the attributes."""
        return np.array([self.x, self.y, self.z, self.yaw, self.pitch, self.roll, self.opening])

    @property
    def rotation_33(self) -> Floats:
        """Rotation from hand coordinates (thumb -x, fingers y, back of the hand z) to world."""
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        return np.array(
            [
                [cy * cr - sy * sp * sr, -sy * cp, cy * sr + sy * sp * cr],
                [sy * cr + cy * sp * sr, cy * cp, sy * sr - cy * sp * cr],
                [-cp * sr, sp, cp * cr],
            ]
        )

    @property
    def palm_3(self) -> Floats:
        """Middle of the palm in world metres."""
        return np.asarray([self.x, self.y, self.z] - self.rotation_33 @ GRIP_POINT)


@dataclass(frozen=True)
class Grasp:
    """Pose of the hand that holds a thing, relative to the thing's place.

    Attributes:
        pitch: The hand's pitch in radians.
        roll: The hand's roll in radians.
        height: Height of the grip point above the thing's origin, in metres.
        opening: The hand's opening around the thing.
    """

    pitch: float
    roll: float
    height: float
    opening: float

    def hand_at(self, place: Place) -> HandPose:
        """Return the pose of the hand that holds the thing at a place."""
        x, y, z, yaw = place
        return HandPose(x, y, z + self.height, yaw, self.pitch, self.roll, self.opening)


GRASPS: Mapping[str, Grasp] = {
    'cup': Grasp(-0.15, 1.25, 0.058, 0.50),
    'bottle': Grasp(-0.10, 1.30, 0.105, 0.46),
    'screwdriver': Grasp(-1.05, 0.0, 0.018, 0.30),
    'box': Grasp(-1.10, 0.0, 0.070, 0.62),
    'gear': Grasp(-1.10, 0.0, 0.032, 0.62),
    'cloth': Grasp(-0.45, 0.0, 0.026, 0.62),
    'drawer': Grasp(-0.45, 0.0, 0.0, 0.30),
    'dial': Grasp(-1.20, 0.0, 0.030, 0.50),
}


@dataclass(frozen=True, eq=False)
class Pose:
    """A thing's position `[3]` in metres and its rotation `[3, 3]` to world coordinates."""

    xyz: Floats
    rotation_33: Floats

    @classmethod
    def resting(cls, place: Place) -> Pose:
        """Return the pose of a thing that rests at a place."""
        x, y, z, yaw = place
        c, s = math.cos(yaw), math.sin(yaw)
        return cls(np.array([x, y, z]), np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]))

    @classmethod
    def held(cls, name: str, hand: HandPose) -> Pose:
        """Return the pose of a thing in the hand: the thing moves rigidly with the hand."""
        resting = GRASPS[name].hand_at((0.0, 0.0, 0.0, 0.0))
        rotation_33 = hand.rotation_33 @ resting.rotation_33.T
        offset = rotation_33 @ np.array([resting.x, resting.y, resting.z])
        return cls(np.array([hand.x, hand.y, hand.z]) - offset, rotation_33)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The fixed things of one scene, and the regions of the movable things.

    Attributes:
        drawer_place: Middle of the drawer unit's floor; the drawer opens along its yaw.
        drawer_size: Depth, width and height of the unit in metres.
        drawer_travel: Travel of the drawer from closed to fully open, in metres.
        base_place: Middle of the plate with the peg.
        dial_place: Middle of the box that carries the dial.
        spots: For each movable thing, the middle of the region where it is laid down.
        box_range: The box's x after a push to the left and after a push to the right.
        clutter: Places of the things that the hand never touches.
    """

    drawer_place: Place
    drawer_size: tuple[float, float, float]
    drawer_travel: float
    base_place: Place
    dial_place: Place
    spots: Mapping[str, tuple[float, float]]
    box_range: tuple[float, float]
    clutter: tuple[Place, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Layout:
        """Draw a random layout."""

        def near(x: float, y: float, spread: float = 0.02) -> tuple[float, float]:
            dx, dy = rng.uniform(-spread, spread, 2)
            return x + float(dx), y + float(dy)

        slots = [near(0.15, 0.22), near(0.335, 0.235), near(0.31, 0.045)]
        order = rng.permutation(3)
        spots = {name: slots[k] for name, k in zip(PICKABLES, order, strict=True)}
        spots |= {'box': (0.0, float(rng.uniform(-0.18, -0.14)))}
        spots |= {'gear': near(0.03, 0.045), 'cloth': near(0.13, -0.10)}
        corners = [(-0.55, -0.28), (-0.28, 0.33), (0.03, 0.34), (0.54, 0.12), (0.54, 0.30)]
        chosen = rng.permutation(len(corners))[: int(rng.integers(2, 5))]
        return cls(
            drawer_place=(*near(-0.46, 0.13), 0.0, math.radians(float(rng.uniform(-16, 2)))),
            drawer_size=(0.20, float(rng.uniform(0.19, 0.23)), float(rng.uniform(0.13, 0.16))),
            drawer_travel=float(rng.uniform(0.14, 0.17)),
            base_place=(*near(-0.10, 0.20), 0.0, float(rng.uniform(-0.2, 0.2))),
            dial_place=(*near(0.47, -0.16), 0.0, float(rng.uniform(-0.2, 0.2))),
            spots=spots,
            box_range=(float(rng.uniform(-0.40, -0.36)), float(rng.uniform(-0.13, -0.09))),
            clutter=tuple(
                (*near(*corners[k]), 0.0, float(rng.uniform(-1.5, 1.5))) for k in chosen
            ),
        )

    @property
    def gear_on_base(self) -> Place:
        """Place of the attached gear."""
        x, y, _, yaw = self.base_place
        return x, y, GEAR_ON_BASE_M, yaw

    @property
    def dial_top(self) -> Place:
        """Middle of the dial's knob, at its foot."""
        x, y, _, yaw = self.dial_place
        return x, y, 0.045, yaw

    @property
    def drawer_direction(self) -> tuple[float, float]:
        """Direction in which the drawer opens, a unit vector along x and y."""
        yaw = self.drawer_place[3]
        return math.cos(yaw), math.sin(yaw)

    def drawer_handle(self, extension: float) -> Place:
        """Return the place of the drawer's handle; with its yaw the fingers point at the unit.

        Args:
            extension: 0 is closed, 1 fully open.
        """
        x, y, _, yaw = self.drawer_place
        dx, dy = self.drawer_direction
        reach = self.drawer_size[0] / 2 + 0.025 + extension * self.drawer_travel
        return x + dx * reach, y + dy * reach, self.drawer_size[2] * 0.55, yaw + math.pi / 2

    def drawer_extension(self, hand: HandPose) -> float:
        """Return the drawer's extension, 0 to 1, while the hand holds its handle."""
        x, y, *_ = self.drawer_handle(0.0)
        dx, dy = self.drawer_direction
        along = (hand.x - x) * dx + (hand.y - y) * dy
        return min(1.0, max(0.0, along / self.drawer_travel))


@dataclass(frozen=True, kw_only=True)
class World:
    """The scene's state between two actions.

    Attributes:
        hand: Pose of the resting hand.
        held: The thing in the hand, or None.
        places: Place of every movable thing; meaningless for the held thing.
        drawer: Extension of the drawer, 0 to 1.
        dial: Angle of the dial in radians.
        gear_attached: Whether the gear sits on the peg.
        box_right: Whether the box was pushed to the right.
    """

    hand: HandPose
    held: str | None
    places: Mapping[str, Place]
    drawer: float
    dial: float
    gear_attached: bool
    box_right: bool


@dataclass(frozen=True, kw_only=True)
class SceneState:
    """The scene at one moment.

    Attributes:
        hand: Pose of the hand.
        held: The thing in the hand (a movable thing, `drawer` or `dial`), or None.
        poses: Pose of every movable thing.
        drawer_extension: 0 is closed, 1 fully open.
        dial_angle: Angle of the dial in radians.
        gear_attached: Whether the gear sits on the peg.
    """

    hand: HandPose
    held: str | None
    poses: Mapping[str, Pose] = field(repr=False)
    drawer_extension: float
    dial_angle: float
    gear_attached: bool


def sits_on_base(gear: Pose, layout: Layout) -> bool:
    """Return whether the gear sits on the peg.

    Args:
        gear: Pose of the gear.
        layout: The fixed things of the scene, with the peg.

    Returns:
        True within a centimetre of the attached place.
    """
    return math.dist(gear.xyz.tolist(), layout.gear_on_base[:3]) < _ATTACHED_M


_HAND_NAMES = ('x', 'y', 'z', 'opening', 'yaw_sin', 'yaw_cos', 'pitch', 'roll')

STATE_NAMES: tuple[str, ...] = (
    *(f'hand_{name}' for name in _HAND_NAMES),
    *(f'{thing}_{name}' for thing in MOVABLES for name in ('x', 'y', 'z', 'held')),
    *(f'drawer_{name}' for name in ('x', 'y', 'z', 'held', 'extension')),
    *(f'dial_{name}' for name in ('x', 'y', 'z', 'held', 'sin', 'cos')),
    *(f'base_{name}' for name in ('x', 'y')),
    'gear_attached',
)
"""Names of the state vector's numbers. Lengths are divided by half the table's width (x), half its
depth (y) and 0.4 m (z), pitch and roll by pi / 2. Flags and the extension are 0 to 1."""

_SCALE = np.array([TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2, 0.4])


def state_vector(state: SceneState, layout: Layout) -> NDArray[np.float32]:
    """Return the state of a scene as numbers of about -1 to 1.

    Args:
        state: The state.
        layout: The fixed things of the scene.

    Returns:
        One number per name in `STATE_NAMES`.
    """
    hand = state.hand
    values = [
        hand.x / _SCALE[0],
        hand.y / _SCALE[1],
        hand.z / _SCALE[2],
        hand.opening,
        math.sin(hand.yaw),
        math.cos(hand.yaw),
        hand.pitch / (math.pi / 2),
        hand.roll / (math.pi / 2),
    ]
    for name in MOVABLES:
        values += [*(state.poses[name].xyz / _SCALE), float(state.held == name)]
    for name, place in (
        ('drawer', layout.drawer_handle(state.drawer_extension)),
        ('dial', layout.dial_top),
    ):
        values += [*(np.array(place[:3]) / _SCALE), float(state.held == name)]
        if name == 'drawer':
            values.append(state.drawer_extension)
    values += [math.sin(state.dial_angle), math.cos(state.dial_angle)]
    values += [*(np.array(layout.base_place[:2]) / _SCALE[:2]), float(state.gear_attached)]
    return np.array(values, np.float32)
