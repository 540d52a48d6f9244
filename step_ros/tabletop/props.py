# SPDX-License-Identifier: Apache-2.0
"""Shapes of the scene: the table, the person's body, hand and arm, and the things on the table.

The hand and the arm are capsules: two balls of different size and everything between them. All
other shapes are solids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from step_ros.tabletop.appearance import Look
from step_ros.tabletop.geometry import Solid, block, circle_points, lathe, rectangle
from step_ros.tabletop.scene import GEAR_ON_BASE_M, TABLE_SIZE, Floats, HandPose, Layout, Place

SURFACES = (
    'background',
    'table',
    'person',
    'hand',
    'cup',
    'bottle',
    'screwdriver',
    'box',
    'gear',
    'cloth',
    'drawer',
    'unit',
    'base',
    'dial',
    'clutter',
)
"""Surfaces that a pixel can show, in the order of their indices in a surface map. `unit` is the
cabinet with the drawer, and `person` is the sleeve and the body."""

SHOULDER = (0.20, -0.60, 0.30)
"""Right shoulder in world metres."""

# The hand, in metres in its own frame: x towards the little finger, y along the fingers.
_FINGERS_X = np.array([-0.030, -0.010, 0.010, 0.029])
_FINGERS_Y = np.array([0.046, 0.052, 0.049, 0.040])
_KNUCKLE = np.array([0.042, 0.047, 0.044, 0.034])
_TIP = np.array([0.040, 0.045, 0.042, 0.034])
_FINGER_R = 0.0105
_FOREARM_M = 0.27
_WRIST = np.array([0.0, -0.052, 0.0])
# The forearm points here: the elbow is to the right of the shoulder and a little below it.
_ELBOW_AIM = np.array([SHOULDER[0] + 0.10, SHOULDER[1], SHOULDER[2] - 0.16])
_SPLAY = np.array([-0.16, -0.05, 0.05, 0.17])

# Upper arm, forearm, wrist, palm (four rays), fingers (two parts each), thumb (two parts).
_RADII = np.array(
    [(0.040, 0.048), (0.033, 0.040), (0.026, 0.028)]
    + [(0.016, 0.018)] * 4
    + [(_FINGER_R, 0.0098)] * 4
    + [(0.0098, 0.0084)] * 4
    + [(0.016, 0.012), (0.012, 0.0095)]
)

_SKIN = (False, False, *[True] * (len(_RADII) - 2))


@dataclass(frozen=True, eq=False)
class Capsules:
    """A batch of capsules.

    Attributes:
        first_n3: Centres of the first balls in world metres.
        second_n3: Centres of the second balls in world metres.
        radii_n2: Radii of both balls in metres.
        skin_n: Whether each capsule is skin (True) or sleeve (False).
    """

    first_n3: Floats
    second_n3: Floats
    radii_n2: Floats
    skin_n: tuple[bool, ...]


def table_solids(look: Look) -> list[Solid]:
    """Return the table: its legs, then the slab; the texture of its top is painted later.

    Args:
        look: The colours.

    Returns:
        The solids, in the order in which to paint them.
    """
    c = look.colours
    x, y = TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2
    legs = [
        block(
            'background',
            'world',
            (sx * (x - 0.06) - 0.025, sy * (y - 0.06) - 0.025, -0.72),
            (sx * (x - 0.06) + 0.025, sy * (y - 0.06) + 0.025, -0.03),
            c['legs'],
        )
        for sy in (-1.0, 1.0)
        for sx in (-1.0, 1.0)
    ]
    return [*legs, block('table', 'world', (-x, -y, -0.035), (x, y, 0.0), c['slab'])]


def body_solids(look: Look) -> list[Solid]:
    """Return the sitting person without the right arm.

    Args:
        look: The colours.

    Returns:
        The solids.
    """
    c = look.colours
    x, y, z = SHOULDER
    torso = lathe(
        'person',
        'world',
        [(0.86, -0.35), (0.92, 0.05), (1.0, z - 0.03), (0.86, z + 0.05), (0.35, z + 0.09)],
        [c['sleeve']] * 5,
        corners=14,
        stretch=(x + 0.015, 0.115),
    ).moved((0.0, y - 0.03, 0.0))
    neck = lathe(
        'person', 'world', [(0.05, z + 0.06), (0.05, z + 0.14)], [0.9 * c['skin']] * 2, corners=10
    ).moved((0.0, y - 0.02, 0.0))
    angles = np.linspace(-1.35, 1.35, 7)
    rings = [(0.085 * math.cos(a), z + 0.23 + 0.12 * math.sin(a)) for a in angles]
    shades = [c['skin']] * 4 + [c['hair']] * 3
    head = lathe('person', 'world', rings, shades, corners=12).moved((0.0, y, 0.0))
    # The left arm rests along the body, with the hand in the lap.
    arm = lathe(
        'person', 'world', [(0.04, -0.30), (0.055, z)], [c['sleeve'] * 0.93] * 2, corners=8
    ).moved((-x - 0.01, y + 0.01, 0.0))
    return [torso, neck, head, arm]


def hand_capsules(hand: HandPose) -> Capsules:
    """Return the right hand and arm as capsules.

    Args:
        hand: Pose of the hand.

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
    # The wrist reaches a little into the palm, so that no gap appears when it bends.
    first[2] = 0.5 * (wrist + heel_mid)
    return Capsules(first, second, _RADII, _SKIN)


def movable_solids(look: Look, rng: np.random.Generator) -> list[Solid]:
    """Return the movable things; each has a moving frame of its own name.

    Args:
        look: The colours.
        rng: Source of the sizes.

    Returns:
        The solids.
    """
    c = look.colours
    cup, bottle, tool, box, gear, cloth = rng.uniform(0.92, 1.10, 6).tolist()
    return [
        *_cup(cup, c['cup'], c['dark'], rng),
        lathe(
            'bottle',
            'bottle',
            [
                (0.030 * bottle, 0.0),
                (0.033 * bottle, 0.045),
                (0.033 * bottle, 0.10),
                (0.033 * bottle, 0.135 * bottle),
                (0.014, 0.175 * bottle),
                (0.014, 0.20 * bottle),
                (0.017, 0.20 * bottle + 0.001),
                (0.017, 0.225 * bottle),
            ],
            [c['bottle'], c['white'], *[c['bottle']] * 3, c['cap'], c['cap'], c['cap']],
        ),
        *_screwdriver(tool, c['screwdriver'], c['metal'], c['dark'], rng),
        _box(box, c['box'], c['white']),
        _gear(gear, c['gear'], c['dark']),
        _cloth(cloth, c['cloth'], c['cloth_stripe']),
    ]


def fixed_solids(layout: Layout, look: Look, rng: np.random.Generator) -> list[Solid]:
    """Return the fixed things on the table, and the moving parts of drawer and dial.

    Args:
        layout: Places of the fixed things.
        look: The colours.
        rng: Source of the kinds of clutter.

    Returns:
        The solids. The frames `tray`, `front` and `knob` move; `world` does not.
    """
    c = look.colours
    return [
        *_drawer_unit(layout, look),
        *(s.moved(layout.base_place[:3], layout.base_place[3]) for s in _base(look)),
        *(s.moved(layout.dial_place[:3], layout.dial_place[3]) for s in _dial_panel(look)),
        _knob(look),
        *(_clutter(place, c[f'clutter_{k}'], rng) for k, place in enumerate(layout.clutter)),
    ]


def _elbow(wrist: Floats) -> Floats:
    """Return the elbow: towards the shoulder, a little to the right and below the direct line."""
    towards = _ELBOW_AIM - wrist
    elbow = wrist + _FOREARM_M * towards / max(float(np.linalg.norm(towards)), 1e-6)
    if elbow[1] > -0.44:
        # Above the table top, not through it.
        elbow[2] = max(elbow[2], 0.05)
    return np.asarray(elbow)


def _unit(x: float, y: float, z: float) -> Floats:
    return np.array([x, y, z]) / math.sqrt(x * x + y * y + z * z)


def _cup(scale: float, colour: Floats, dark: Floats, rng: np.random.Generator) -> list[Solid]:
    low, high, top = 0.036 * scale, 0.046 * scale, 0.108 * scale
    body = lathe(
        'cup', 'cup', [(low, 0.0), (high, top)], [colour, np.minimum(colour * 1.25, 255.0)]
    )
    body = body.painted(circle_points(high * 0.86, top), 0.4 * colour + 0.6 * dark)
    # The handle points away from the palm, so that the hand never covers it.
    yaw = float(rng.uniform(-0.6, 0.9))
    bars = [
        ((high * 0.85, -0.006, 0.066), (high + 0.030, 0.006, 0.077)),
        ((high * 0.80, -0.006, 0.024), (high + 0.030, 0.006, 0.035)),
        ((high + 0.019, -0.006, 0.024), (high + 0.030, 0.006, 0.077)),
    ]
    handle = [
        block('cup', 'cup', a, b, 0.85 * colour, shadow=False).moved(yaw=yaw + math.pi)
        for a, b in bars
    ]
    return [body, *handle]


def _screwdriver(
    scale: float, colour: Floats, metal: Floats, dark: Floats, rng: np.random.Generator
) -> list[Solid]:
    yaw = float(rng.uniform(-0.5, 0.5))
    rings = [(0.015, -0.11), (0.021, -0.10), (0.021, -0.03), (0.014, -0.01), (0.018, 0.005)]
    handle = lathe(
        'screwdriver',
        'screwdriver',
        [(r, z * scale) for r, z in rings],
        [colour, colour, dark, colour, colour],
        corners=8,
    )
    shaft = lathe(
        'screwdriver',
        'screwdriver',
        [(0.0075, 0.005 * scale), (0.0075, 0.12 * scale), (0.010, 0.135 * scale)],
        [metal, metal, metal],
        corners=6,
    )
    return [part.moved((0.0, 0.0, 0.021), yaw, lay=True) for part in (handle, shaft)]


def _box(scale: float, colour: Floats, white: Floats) -> Solid:
    x, y, z = 0.055 * scale, 0.042 * scale, 0.078
    solid = block('box', 'box', (-x, -y, 0.0), (x, y, z), colour)
    solid = solid.painted(rectangle((0.0, 0.0), (2.0 * x, 0.5 * y), z), 0.5 * (colour + white))
    # A label on each long side, so that both sides look the same.
    for side in (-1.0, 1.0):
        corners = np.array(
            [[-0.5 * x, side * y, 0.02], [0.5 * x, side * y, 0.02], [0.5 * x, side * y, 0.055]]
        )
        corners = np.vstack([corners, [[-0.5 * x, side * y, 0.055]]])
        solid = solid.painted(corners if side < 0.0 else corners[::-1], white)
    return solid


def _gear(scale: float, colour: Floats, dark: Floats) -> Solid:
    teeth, thick = 9, 0.024
    radii = np.tile([0.046, 0.061, 0.061, 0.046], teeth) * scale
    angles = (np.arange(4 * teeth) // 4 + np.tile([0.0, 0.12, 0.45, 0.57], teeth)) / teeth
    flat = np.stack([np.cos(2 * math.pi * angles), np.sin(2 * math.pi * angles)], axis=1)
    flat *= radii[:, None]
    count = 4 * teeth
    vertices = np.vstack([np.column_stack([flat, np.full(count, z)]) for z in (0.0, thick)])
    sides = tuple((k, (k + 1) % count, count + (k + 1) % count, count + k) for k in range(count))
    faces = (tuple(reversed(range(count))), *sides, tuple(range(count, 2 * count)))
    colours = np.tile(colour, (len(faces), 1))
    # The gear is drawn after the peg's foot, which it hides, and before the peg's head.
    solid = Solid('gear', 'gear', vertices, faces, colours)
    solid = solid.painted(circle_points(0.033 * scale, thick), 0.75 * colour)
    return solid.painted(circle_points(0.013, thick), dark)


def _cloth(scale: float, colour: Floats, stripe: Floats) -> Solid:
    x, y, z = 0.075 * scale, 0.052 * scale, 0.008
    solid = block('cloth', 'cloth', (-x, -y, 0.0), (x, y, z), colour, bias=0.25, shadow=False)
    for side in (-0.6, 0.0, 0.6):
        solid = solid.painted(rectangle((side * x, 0.0), (0.25 * x, 2.0 * y), z), stripe)
    return solid


def _drawer_unit(layout: Layout, look: Look) -> list[Solid]:
    c = look.colours
    depth, width, height = layout.drawer_size
    x, y, low, high = depth / 2, width / 2, 0.22 * height, 0.82 * height
    inner = y - 0.014
    unit = block('unit', 'world', (-x, -y, 0.0), (x, y, height), c['unit'])
    slot = np.array([[x, -inner, low], [x, inner, low], [x, inner, high], [x, -inner, high]])
    unit = unit.painted(slot, c['dark'])
    return [
        unit.moved(layout.drawer_place[:3], layout.drawer_place[3]),
        _tray(inner, low + 0.004, high - 0.012, c['drawer']),
        *_drawer_front(inner, low, high, layout, look),
    ]


def _tray(y: float, low: float, high: float, colour: Floats) -> Solid:
    """Return the part of the drawer outside the unit; the renderer stretches its x from 0 to 1."""
    vertices = np.array([[x, s * y, z] for x in (0.0, 1.0) for s in (-1, 1) for z in (low, high)])
    floor, left, right = (0, 4, 6, 2), (0, 1, 5, 4), (2, 6, 7, 3)
    # Inner faces come first: seen from above, the outer faces hide a part of them.
    inner = (floor, left, right)
    faces = (*inner, *(tuple(reversed(face)) for face in (left, right, floor)))
    wood = np.array([196.0, 168.0, 128.0])
    colours = np.stack([0.62 * wood, 0.75 * wood, 0.75 * wood, wood, wood, wood])
    solid = Solid('drawer', 'tray', vertices, faces, 0.85 * colours + 0.15 * colour)
    return solid


def _drawer_front(y: float, low: float, high: float, layout: Layout, look: Look) -> list[Solid]:
    c = look.colours
    panel = block('drawer', 'front', (0.0, -y, low), (0.010, y, high), c['drawer'])
    z = layout.drawer_size[2] * 0.55
    handle = block(
        'drawer', 'front', (0.012, -0.035, z - 0.006), (0.027, 0.035, z + 0.006), c['metal']
    )
    return [panel, handle]


def _base(look: Look) -> list[Solid]:
    c = look.colours
    top = GEAR_ON_BASE_M
    plate = block('base', 'world', (-0.072, -0.072, 0.0), (0.072, 0.072, top), c['base'])
    plate = plate.painted(circle_points(0.03, top), 0.6 * c['base'])
    # An attached gear hides the peg's foot, but never its head.
    foot = lathe(
        'base',
        'world',
        [(0.011, top), (0.011, top + 0.024)],
        [c['metal']] * 2,
        corners=8,
        bias=0.02,
    )
    head = lathe(
        'base',
        'world',
        [(0.011, top + 0.024), (0.011, 0.084), (0.007, 0.092)],
        [c['metal']] * 3,
        corners=8,
        bias=-0.01,
    )
    return [plate, foot, head]


def _dial_panel(look: Look) -> list[Solid]:
    c = look.colours
    panel = block('dial', 'world', (-0.068, -0.068, 0.0), (0.068, 0.068, 0.045), c['panel'])
    panel = panel.painted(circle_points(0.058, 0.045, 16), c['white'])
    for k in range(8):
        mark = rectangle((0.051, 0.0), (0.010, 0.006), 0.045, k * math.pi / 4)
        panel = panel.painted(mark, c['dark'])
    return [panel]


def _knob(look: Look) -> Solid:
    c = look.colours
    rings = [(0.040, 0.0), (0.037, 0.030)]
    knob = lathe('dial', 'knob', rings, [c['knob'], np.minimum(1.15 * c['knob'], 255.0)])
    return knob.painted(rectangle((0.019, 0.0), (0.034, 0.013), 0.030), c['white'])


def _clutter(place: Place, colour: Floats, rng: np.random.Generator) -> Solid:
    kind = int(rng.integers(4))
    if kind == 0:  # a book
        solid = block('clutter', 'world', (-0.06, -0.045, 0.0), (0.06, 0.045, 0.026), colour)
        solid = solid.painted(rectangle((0.0, 0.0), (0.07, 0.03), 0.026), 0.5 * colour + 110.0)
    elif kind == 1:  # a tin
        rings = [(0.032, 0.0), (0.032, 0.055)]
        solid = lathe('clutter', 'world', rings, [colour, np.full(3, 190.0)], corners=10)
    elif kind == 2:  # a toy block
        solid = block('clutter', 'world', (-0.025, -0.025, 0.0), (0.025, 0.025, 0.05), colour)
    else:  # a ball
        angles = np.linspace(-1.3, 1.3, 6)
        rings = [(0.033 * math.cos(a), 0.033 + 0.033 * math.sin(a)) for a in angles]
        solid = lathe('clutter', 'world', rings, [colour] * 6, corners=10)
    return solid.moved(place[:3], place[3])
