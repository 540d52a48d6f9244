"""The table and the sitting person's body, as solids."""

from __future__ import annotations

import math

import numpy as np

from step_ros.data.tabletop_look import Look
from step_ros.data.tabletop_scene import TABLE_SIZE
from step_ros.data.tabletop_solids import Solid, block, lathe

SHOULDER = (0.20, -0.60, 0.30)
"""Right shoulder in world metres."""


def table_solids(look: Look) -> list[Solid]:
    """Shapes the table: legs, then the slab, whose top is textured later.

    Args:
        look: The colours.

    Returns:
        The solids, in the order to paint them.
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
    """Shapes the sitting person without the right arm.

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
    # The left arm rests along the body, its hand in the lap.
    arm = lathe(
        'person', 'world', [(0.04, -0.30), (0.055, z)], [c['sleeve'] * 0.93] * 2, corners=8
    ).moved((-x - 0.01, y + 0.01, 0.0))
    return [torso, neck, head, arm]
