# SPDX-License-Identifier: Apache-2.0
"""Text stays within its width, and bars have the requested length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.visualization.canvas import WHITE, Canvas, plain_text


def blank(width=640, height=60):
    return np.zeros((height, width, 3), np.uint8)


def columns(image):
    return np.flatnonzero(image.any(axis=(0, 2)))


@given(
    text=st.text(max_size=60),
    scale=st.sampled_from([1.0, 1.5, 2.25]),
    align=st.sampled_from(['left', 'right', 'centre']),
    room=st.integers(30, 200),
)
def test_text_never_exceeds_its_width(text, scale, align, room):
    image = blank(round(640 * scale), round(60 * scale))
    taken = Canvas(image, scale=scale).text(text, 300, 30, height=8.6, width=room, align=align)
    assert taken <= room
    left = 300 - {'left': 0, 'right': taken, 'centre': taken / 2}[align]
    written = columns(image) / scale
    assert all((left - 2 <= written) & (written <= left + room + 2))


def test_only_text_that_does_not_fit_is_cut():
    drawn = [blank() for _ in range(3)]
    for image, width in zip(drawn, (float('inf'), 300, 60), strict=True):
        Canvas(image, scale=1.0).text('lay down screwdriver', 10, 30, height=8.6, width=width)
    assert np.array_equal(drawn[0], drawn[1])
    assert columns(drawn[2]).max() < 72


def test_text_without_room_is_omitted():
    image = blank()
    assert Canvas(image, scale=1.0).text('label', 10, 30, height=8.6, width=3) == 0
    assert not image.any()


@pytest.mark.parametrize(
    ('given', 'written'),
    [('Schublade öffnen', 'Schublade offnen'), ('déposer', 'deposer'), ('取る', '??')],
)
def test_accents_are_dropped_and_other_characters_marked(given, written):
    assert plain_text(given) == written


@pytest.mark.parametrize('scale', [1.0, 1.5, 2.25])
def test_bars_have_the_requested_length(scale):
    image = blank(round(640 * scale), round(60 * scale))
    canvas = Canvas(image, scale=scale)
    canvas.bar(10, 5, 100, 16, WHITE)
    canvas.bar(300, 5, 0.0, 16, WHITE)
    filled = columns(image)
    assert len(filled) == round(110 * scale) - round(10 * scale)
    assert filled[0] == round(10 * scale)
