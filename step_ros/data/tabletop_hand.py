"""The hand and the arm as capsules: two balls of different size and everything between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from step_ros.data.tabletop_furniture import SHOULDER
from step_ros.data.tabletop_pose import HandPose

Floats = NDArray[np.float64]

_FINGERS_X = np.array([-0.030, -0.010, 0.010, 0.029])
_FINGERS_Y = np.array([0.046, 0.052, 0.049, 0.040])
_KNUCKLE = np.array([0.042, 0.047, 0.044, 0.034])
_TIP = np.array([0.040, 0.045, 0.042, 0.034])
_FINGER_R = 0.0105
_FOREARM_M = 0.27
_WRIST = np.array([0.0, -0.052, 0.0])
# The elbow keeps to the right of the line to the shoulder and hangs a little.
_ELBOW_AIM = np.array([SHOULDER[0] + 0.10, SHOULDER[1], SHOULDER[2] - 0.16])
_SPLAY = np.array([-0.16, -0.05, 0.05, 0.17])


@dataclass(frozen=True, eq=False)
class Capsules:
    """A batch of capsules.

    Attributes:
        first_n3: Centres of the first balls in world metres.
        second_n3: Centres of the second balls.
        radii_n2: Radii of both balls in metres.
        skin_n: True where it is skin, False where it is sleeve.
    """

    first_n3: Floats
    second_n3: Floats
    radii_n2: Floats
    skin_n: tuple[bool, ...]


# Forearm and upper arm, wrist, palm (four rays), fingers (two parts each), thumb (two parts).
_RADII = np.array(
    [(0.040, 0.048), (0.033, 0.040), (0.026, 0.028)]
    + [(0.016, 0.018)] * 4
    + [(_FINGER_R, 0.0098)] * 4
    + [(0.0098, 0.0084)] * 4
    + [(0.016, 0.012), (0.012, 0.0095)]
)
_SKIN = (False, False, *[True] * (len(_RADII) - 2))


def hand_capsules(hand: HandPose) -> Capsules:
    """Shapes the right hand and arm.

    Args:
        hand: The hand.

    Returns:
        Upper arm, forearm, wrist, palm, fingers and thumb.
    """
    curl = 1.0 - hand.opening
    near, far = 1.15 * curl, 1.15 * curl + 1.35 * curl
    zeros = np.zeros(4)
    splay = _SPLAY * (0.25 + 0.75 * hand.opening)
    base = np.stack([_FINGERS_X, _FINGERS_Y, zeros], axis=1)
    ahead = np.stack([np.sin(splay), np.cos(splay), zeros], axis=1)
    down = np.array([0.0, 0.0, -1.0])
    knuckle = base + _KNUCKLE[:, None] * (ahead * math.cos(near) + down * math.sin(near))
    tip = knuckle + _TIP[:, None] * (ahead * math.cos(far) + down * math.sin(far))
    heel = np.stack([0.72 * _FINGERS_X, np.full(4, -0.036), zeros], axis=1)
    swing = 1.25 * curl
    thumb_base = np.array([-0.026, -0.020, -0.008])
    thumb_mid = thumb_base + 0.046 * _unit(-0.80 + 0.45 * curl, 0.60, -0.25 - 0.9 * swing)
    thumb_tip = thumb_mid + 0.036 * _unit(-0.30 + 0.65 * curl, 0.85, -0.15 - 0.8 * swing)
    local = np.vstack(
        [heel, base, base, knuckle, knuckle, tip, [thumb_base, thumb_mid, thumb_tip, _WRIST]]
    )
    world = local @ hand.rotation_33.T + hand.palm_3
    wrist, thumb = world[-1], world[-4:-1]
    elbow = _elbow(wrist)
    cuff = wrist + 0.26 * (elbow - wrist)
    shoulder = np.array(SHOULDER)
    heel_mid = 0.5 * (world[1] + world[2])
    first = np.vstack([elbow, cuff, wrist + 0.0, world[0:4], world[8:12], world[16:20], thumb[:2]])
    second = np.vstack([shoulder, elbow, cuff, world[4:8], world[12:16], world[20:24], thumb[1:]])
    # The wrist reaches a little into the palm, so that no gap shows when it bends.
    first[2] = 0.5 * (wrist + heel_mid)
    return Capsules(first, second, _RADII, _SKIN)


def _elbow(wrist: Floats) -> Floats:
    """Where the elbow is: towards the shoulder, to the right and hanging a little."""
    towards = _ELBOW_AIM - wrist
    elbow = wrist + _FOREARM_M * towards / max(float(np.linalg.norm(towards)), 1e-6)
    if elbow[1] > -0.44:
        # Above the table top, not through it.
        elbow[2] = max(elbow[2], 0.05)
    return np.asarray(elbow)


def _unit(x: float, y: float, z: float) -> Floats:
    return np.array([x, y, z]) / math.sqrt(x * x + y * y + z * z)
