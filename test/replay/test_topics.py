# SPDX-License-Identifier: Apache-2.0
"""The image topics and the images that a replay leaves out, and how the report names them."""

import json

import numpy as np
import pytest

from step_ros.encoders.base import choose_device
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.writer import BagWriter
from step_ros.replay.report import left_out_lines, write_replay_report
from step_ros.replay.run import ReplayPlan, replay
from step_ros.resources import load_defaults
from step_ros.streaming.settings import StreamSettings

RAW, COPY, OVERLAY = '/camera/image_raw', '/camera/image_raw/compressed', '/perception/overlay'
ZERO, PERIOD = 1_700_000_000 * 10**9, 50_000_000


@pytest.fixture
def put_images(tmp_path):
    """Write a bag of noise at 20 Hz: `put_images(RAW, COPY, unstamped=1)`."""

    def put(*topics, unstamped=0):
        random = np.random.default_rng(0)
        with BagWriter(tmp_path / 'bag') as writer:
            for number in range(40):
                for topic in topics:
                    image = random.integers(0, 256, (32, 48, 3), np.uint8)
                    stamp_ns = 0 if number < unstamped else ZERO + number * PERIOD
                    encoding = 'png' if topic.endswith('compressed') else 'rgb8'
                    log_ns = ZERO + number * PERIOD
                    writer.image(topic, image, stamp_ns, encoding=encoding, log_ns=log_ns)
        return tmp_path / 'bag'

    return put


def run(path, bundle, output, *topics):
    plan = ReplayPlan(
        labels='',
        topics=topics,
        settings=StreamSettings.from_values(load_defaults('perception.yaml')),
        top_k=3,
        device=choose_device('cpu'),
    )
    result = replay([path], [bundle.path], plan, output=output, shown=False)
    assert not result.failures
    write_replay_report(result, output)
    return json.loads((output / 'report.json').read_text())


def test_copies_and_overlays_are_not_scored_and_are_named(put_images, tiny_bundle, tmp_path):
    path = put_images(RAW, COPY, OVERLAY)
    content = run(path, tiny_bundle, tmp_path / 'out')
    assert [each['camera'] for each in content['recordings']] == [RAW]
    assert left_out_lines(content) == [
        f'bag: left out {COPY}: the same camera as {RAW}; --topic chooses topics.',
        f'bag: left out {OVERLAY}: a perception node draws it; --topic chooses topics.',
    ]
    assert 'the same camera as' in (tmp_path / 'out' / 'report.md').read_text()
    # Topics that the user names are replayed as they are.
    content = run(path, tiny_bundle, tmp_path / 'named', COPY, OVERLAY)
    assert [each['camera'] for each in content['recordings']] == [COPY, OVERLAY]
    assert 'topics_left_out' not in content


def test_first_image_without_a_stamp_is_named(put_images, tiny_bundle, tmp_path):
    path = put_images(RAW, unstamped=1)
    content = run(path, tiny_bundle, tmp_path / 'out')
    assert left_out_lines(content) == [
        f'bag: left out 1 images of {RAW} without a stamp; times count from the first image '
        'with one.'
    ]
    assert BagReader(path).first_frame(RAW).stamp_ns == ZERO + PERIOD


def test_sound_bag_reports_nothing_left_out(put_images, tiny_bundle, tmp_path):
    content = run(put_images(RAW), tiny_bundle, tmp_path / 'out')
    assert left_out_lines(content) == []
    assert 'topics_left_out' not in content
