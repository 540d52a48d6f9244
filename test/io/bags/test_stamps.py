# SPDX-License-Identifier: Apache-2.0
"""Duplicate, exchanged and missing stamps of a bag's images: one rule for every reader."""

import numpy as np
import pytest
from fixtures.bag_files import bag_error
from hypothesis import given
from hypothesis import strategies as st

from step_ros.datasets.check import check_dataset
from step_ros.datasets.frames import read_frames
from step_ros.datasets.registry import read_dataset
from step_ros.io.bags.reader import END, START, BagEvent, BagReader, index_bag
from step_ros.io.bags.stamps import order_by_stamp, order_tolerance_ns
from step_ros.io.bags.writer import BagWriter
from step_ros.io.video import VideoError

CAMERA, MS = '/camera/image_raw', 1_000_000
ZERO = 1_700_000_000_000 * MS


@pytest.fixture
def put_stamps(tmp_path, bag_image):
    """Write a bag whose images have these stamps, in ms from its start; None: no stamp."""

    def put(stamps_ms, name='train/bag'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with BagWriter(path) as writer:
            for number, stamp_ms in enumerate(stamps_ms):
                stamp_ns = 0 if stamp_ms is None else ZERO + stamp_ms * MS
                log_ns = ZERO + number * 50 * MS
                writer.image(CAMERA, bag_image(number), stamp_ns, log_ns=log_ns)
            for label, start_ms, end_ms in (('open', 50, 200), ('close', 410, 500)):
                for kind, at in ((START, start_ms), (END, end_ms)):
                    writer.event(
                        '/camera/truth',
                        BagEvent(
                            type=kind,
                            stamp_ns=ZERO + at * MS,
                            start_ns=ZERO + start_ms * MS,
                            task='action',
                            label=label,
                        ),
                    )
        return path

    return put


@pytest.mark.parametrize(
    ('stamps_ms', 'order', 'counts'),
    [
        ([0, 50, 50, 100, 450], [0, 1, 3, 4], {'duplicate': 1}),
        ([0, 100, 50, 150, 450], [0, 2, 1, 3, 4], {'reordered': 1}),
        ([50, 0, 100, 450], [1, 0, 2, 3], {'reordered': 1}),
        ([None, 50, 100, 450], [1, 2, 3], {'zero_stamp': 1}),
        ([0, None, 100, 0, 450], [0, 2, 4], {'zero_stamp': 1, 'duplicate': 1}),
    ],
)
def test_frames_are_dropped_or_sorted_and_counted(
    stamps_ms, order, counts, put_stamps, bag_image, tmp_path
):
    path = put_stamps(stamps_ms)
    index = index_bag(path, CAMERA)
    assert dict(index.counts) == counts
    assert np.all(np.diff(index.stamps_ns) > 0)
    images = read_frames(index, list(range(len(index))))
    assert np.array_equal(images, np.stack([bag_image(number) for number in order]))
    # Seconds count from the same frame in every reader.
    assert BagReader(path).first_frame(CAMERA).stamp_ns == index.start_ns
    dataset = read_dataset('bag', tmp_path)
    found = check_dataset(dataset, decode=True)
    assert found.problems == ()
    assert sum(found.left_out.values()) >= sum(counts.values())
    assert sum(found.as_dict()['left_out'].values()) >= sum(counts.values())


def test_dropped_and_sorted_images_are_named_once(put_stamps, caplog):
    path = put_stamps([None, 50, 100, 100, 200, 150, 450])
    for _ in range(2):
        index_bag(path, CAMERA)
    [record] = caplog.records
    assert record.getMessage() == (
        f'{path}: {CAMERA}: 1 images left out without a stamp, 1 images left out with the stamp '
        'of an earlier image, 1 images sorted by stamp'
    )


def test_step_back_beyond_the_order_tolerance_is_refused(put_stamps):
    path = put_stamps([0, 200, 99, 250])
    assert 'header stamps may go back by at most 0.1 s (order_tolerance)' in bag_error(
        index_bag, path, CAMERA
    )


@given(stamps=st.lists(st.integers(-1, 400).map(lambda ms: ms * MS), min_size=1))
def test_any_stamps_give_ascending_frames_or_an_error(stamps):
    try:
        order, counts = order_by_stamp(None, CAMERA, stamps)
    except VideoError:
        return
    chosen = np.asarray(stamps)[order]
    assert np.all(np.diff(chosen) > 0)
    assert chosen[0] > 0
    assert len(order) + counts['zero_stamp'] + counts['duplicate'] == len(stamps)
    newest = np.maximum.accumulate(stamps)
    assert np.all((newest - stamps)[order] <= order_tolerance_ns())
