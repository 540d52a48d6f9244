# SPDX-License-Identifier: Apache-2.0
"""Planar YUV images become RGB where their layout is certain."""

import array

import cv2
import numpy as np
import pytest
from fixtures.images import error_of, smooth
from sensor_msgs.msg import Image

from step_ros.images.encodings import (
    PLANAR_ENCODINGS,
)
from step_ros.ros.images import to_rgb


def planar_message(encoding, *, step=None, height=48, width=64):
    """Return the smooth image in a planar encoding, without padding."""
    yuv = cv2.cvtColor(smooth(height, width), cv2.COLOR_RGB2YUV_I420)
    luma = yuv[:height]
    u, v = yuv[height:].reshape(2, height // 2, width // 2)
    if encoding == 'nv24':
        u, v = (np.repeat(np.repeat(each, 2, 0), 2, 1) for each in (u, v))
    colours = {
        'nv12': lambda: np.stack((u, v), -1),
        'nv21': lambda: np.stack((v, u), -1),
        'nv24': lambda: np.stack((u, v), -1),
        'yv12': lambda: np.stack((v, u)),
    }.get(encoding, lambda: np.stack((u, v)))()
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        step=width if step is None else step,
        data=array.array('B', luma.tobytes() + colours.tobytes()),
    )


@pytest.mark.parametrize('encoding', PLANAR_ENCODINGS)
def test_planar_yuv_becomes_the_image(encoding):
    message = planar_message(encoding)
    expected = cv2.cvtColor(
        np.frombuffer(planar_message('i420').data, np.uint8).reshape(72, 64),
        cv2.COLOR_YUV2RGB_I420,
    )
    difference = np.abs(to_rgb(message).astype(int) - expected)
    # nv24 has other rounding; OpenCV has no conversion for it.
    assert difference.max() <= (3 if encoding == 'nv24' else 0)
    assert np.abs(to_rgb(message).astype(int) - smooth()).mean() < 3


@pytest.mark.parametrize('encoding', PLANAR_ENCODINGS)
@pytest.mark.parametrize('padding', [0, 1, 512])
def test_planar_yuv_takes_steps_that_leave_no_doubt(encoding, padding):
    expected = to_rgb(planar_message(encoding))
    rows = 192 if encoding == 'nv24' else 96
    for step in (0, 64, rows):
        message = planar_message(encoding, step=step)
        message.data = message.data + array.array('B', bytes(padding))
        assert np.array_equal(to_rgb(message), expected)


@pytest.mark.parametrize('encoding', PLANAR_ENCODINGS)
def test_planar_yuv_with_padded_rows(encoding):
    message = planar_message(encoding)
    expected = to_rgb(message)
    flat = np.frombuffer(message.data, np.uint8)
    luma, colours = flat[: 48 * 64].reshape(48, 64), flat[48 * 64 :]
    # A row of colours is half as long in two planes, and twice as long in nv24.
    part = {'nv24': 128, 'nv12': 64, 'nv21': 64}.get(encoding, 32)
    colours = np.pad(colours.reshape(-1, part), ((0, 0), (0, 16 * part // 64)))
    data = np.pad(luma, ((0, 0), (0, 16))).tobytes() + colours.tobytes()
    message.step, message.data = 80, array.array('B', data)
    assert np.array_equal(to_rgb(message), expected)


def test_planar_yuv_of_unclear_layout_is_an_unknown_encoding():
    message = planar_message('nv21')
    message.height = 72  # with the rows of the colours
    error = error_of(message)
    assert error.cause == 'unknown_encoding'
    assert 'expected a height without the rows of the colours' in str(error)
    luma_only = planar_message('nv12')
    luma_only.data = luma_only.data[: 48 * 64]
    assert error_of(luma_only).cause == 'unknown_encoding'
    short = planar_message('nv12')
    short.data = short.data[:-1]
    assert error_of(short).cause == 'size_mismatch'
    assert 'expected height * step * 1.5 = 4608' in str(error_of(short))
    odd = planar_message('nv12')
    odd.width = 63
    assert error_of(odd).cause == 'size_mismatch'
