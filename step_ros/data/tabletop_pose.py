"""Poses of the hand and of things, and how the hand holds each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Place = tuple[float, float, float, float]
"""Where a thing rests: x, y, z in metres and yaw in radians."""

# Where the hand holds things, seen from the middle of the palm: between thumb and fingers.
GRIP_POINT = np.array([0.0, 0.062, -0.046])


@dataclass(frozen=True)
class HandPose:
    """The hand, placed by the point between thumb and fingers where it holds things.

    Attributes:
        x: Metres to the person's right.
        y: Metres away from the person.
        z: Metres above the table.
        yaw: Radians about z; 0 points the fingers away from the person, positive to the left.
        pitch: Radians; positive points the fingers up.
        roll: Radians about the fingers; pi / 2 turns the thumb up.
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
    """How a thing is held, relative to the thing's own place.

    Attributes:
        pitch: The hand's pitch in radians.
        roll: The hand's roll in radians.
        height: Grip point above the thing's origin, in metres.
        opening: The hand's opening around the thing.
    """

    pitch: float
    roll: float
    height: float
    opening: float

    def hand_at(self, place: Place) -> HandPose:
        """The hand that holds a thing at a place."""
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
        """The pose of a thing that rests at a place."""
        x, y, z, yaw = place
        c, s = math.cos(yaw), math.sin(yaw)
        return cls(np.array([x, y, z]), np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]))

    @classmethod
    def held(cls, name: str, hand: HandPose) -> Pose:
        """The pose of a thing in the hand; grasped at rest, it moves rigidly with the hand."""
        resting = GRASPS[name].hand_at((0.0, 0.0, 0.0, 0.0))
        rotation_33 = hand.rotation_33 @ resting.rotation_33.T
        offset = rotation_33 @ np.array([resting.x, resting.y, resting.z])
        return cls(np.array([hand.x, hand.y, hand.z]) - offset, rotation_33)
