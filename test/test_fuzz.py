# SPDX-License-Identifier: Apache-2.0
"""Damaged inputs give a result or one of our errors, never another exception.

The test makes small valid inputs, cuts them and flips their bytes. STEP_ROS_FUZZ_SECONDS sets how
long it tries each kind (by default 3 s); a failure prints the seed, which repeats it.
"""

import os
import random
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from step_ros.datasets.registry import read_dataset
from step_ros.images.errors import FrameError
from step_ros.images.messages import compressed_to_rgb
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoError, VideoReader, VideoWriter
from step_ros.model.bundle import BundleError, read_spec
from step_ros.resources import load_defaults, read_parameters
from step_ros.training.config import RecipeError, load_recipe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SECONDS = float(os.environ.get('STEP_ROS_FUZZ_SECONDS', '3'))
SEED = int(os.environ.get('STEP_ROS_FUZZ_SEED', '0'))
PIECES = (b'\0', b'\xff', b'\xfe', b'[', b'{', b': ', b'&a *a', b'!!', b'"', b'\n', b'1e999', b'-')


def damaged(data, rng):
    """Return the data cut, with flipped bytes, or with a foreign piece."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del data[place:]
        elif kind == 1 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[place:place] = rng.choice(PIECES)
        else:
            del data[place : place + rng.randint(1, 8)]
    return bytes(data)


def fuzz(valid, use, errors, *, regressions=()):
    """Use damaged versions of an input until the time is over."""
    use(valid)
    for data in regressions:
        try_one(data, use, errors, 'a regression')
    end, seed = time.monotonic() + SECONDS, SEED
    while time.monotonic() < end:
        try_one(damaged(valid, random.Random(seed)), use, errors, f'seed {seed}')
        seed += 1
    assert seed > SEED


def try_one(data, use, errors, name):
    try:
        use(data)
    except errors:
        pass
    except Exception as error:
        pytest.fail(f'{name}: {type(error).__name__}: {error}: {data[:200]!r}')


def file_user(path, use):
    def write_and_use(data):
        path.write_bytes(data)
        return use(path)

    return write_and_use


def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_damaged_compressed_images(suffix):
    class Message:
        format = suffix[1:]

    def use(data):
        message = Message()
        message.data = np.frombuffer(data, np.uint8)
        compressed_to_rgb(message)

    valid = cv2.imencode(suffix, picture())[1].tobytes()
    fuzz(valid, use, FrameError, regressions=(b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'))


def test_damaged_image_messages():
    pytest.importorskip('rclpy')
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from step_ros.images.messages import raw_to_rgb
    from step_ros.ros.cdr_images import EncapsulationError, read_image

    image = picture()
    message = Image(height=24, width=32, encoding='rgb8', step=96, data=image.tobytes())

    def use(data):
        raw_to_rgb(read_image(data))

    fuzz(serialize_message(message), use, (EncapsulationError, FrameError), regressions=(b'',))


@pytest.mark.parametrize('name', ['config/training/tabletop-tiny.yaml'])
def test_damaged_recipes(name, tmp_path):
    use = file_user(tmp_path / 'recipe.yaml', load_recipe)
    fuzz((ROOT / name).read_bytes(), use, (RecipeError, DatasetError), regressions=(b'', b'[]'))


def test_damaged_bundles(tmp_path):
    def use(path):
        return read_spec(path.parent)

    valid = (ROOT / 'models/tabletop-tiny/bundle.yaml').read_bytes()
    regressions = (b'', b'[]', b'1', b'a: &a [*a]', b'\xff')
    fuzz(valid, file_user(tmp_path / 'bundle.yaml', use), BundleError, regressions=regressions)


def test_damaged_parameter_files(tmp_path):
    known = load_defaults('perception.yaml')

    def use(path):
        return read_parameters(path, known=known)

    valid = (ROOT / 'config/perception.yaml').read_bytes()
    path = tmp_path / 'parameters.yaml'
    fuzz(valid, file_user(path, use), ValueError, regressions=(b'', b'[]', b'a: 1', b'\xff\xfe'))


def write_video(path):
    with VideoWriter(path, size=(64, 48), rate=10) as writer:
        for index in range(4):
            writer.write(cv2.resize(picture(), (64, 48)), index * 10**8)


def test_damaged_tables(tmp_path):
    write_video(tmp_path / 'a.mp4')

    def use(_):
        return read_dataset('csv', tmp_path)

    valid = b'video,start,end,split,action\na.mp4,0,0.2,train,wave\na.mp4,0.1,0.3,test,point\n'
    path = tmp_path / 'annotations.csv'
    fuzz(valid, file_user(path, use), DatasetError, regressions=(b'', b'\0', b'video\n"'))


def test_damaged_videos(tmp_path):
    path = tmp_path / 'a.mp4'
    write_video(path)

    def use(video):
        with VideoReader(video) as reader:
            for _ in reader:
                pass

    fuzz(path.read_bytes(), file_user(path, use), VideoError, regressions=(b'', b'\0' * 64))
