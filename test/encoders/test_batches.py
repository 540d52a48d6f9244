# SPDX-License-Identifier: Apache-2.0
"""`BatchSplitter`: batches of limited size, halved when memory runs out."""

import numpy as np
import pytest
import torch

from step_ros.encoders.base import BatchSplitter, EncoderError


def images(count):
    return [np.full((2, 2, 3), index, dtype=np.uint8) for index in range(count)]


class Device:
    """A device that encodes an image as its first value, with memory for `room` images."""

    def __init__(self, room):
        self.room = room
        self.sizes = []

    def encode(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.cuda.OutOfMemoryError('Tried to allocate 2.00 GiB')
        return torch.tensor([float(image[0, 0, 0]) for image in batch]).view(-1, 1, 1)


@pytest.mark.parametrize(
    ('room', 'sizes', 'max_batch'),
    [
        (9, [8, 2], 8),
        (5, [8, 4, 4, 2], 4),
        (3, [8, 4, 2, 2, 2, 2, 2], 2),
        (1, [8, 4, 2, *[1] * 10], 1),
    ],
)
def test_batch_is_halved_until_it_fits(room, sizes, max_batch, caplog):
    device, splitter = Device(room), BatchSplitter(8)
    tokens_b11 = splitter.encode(images(10), device.encode)
    assert tokens_b11.flatten().tolist() == list(range(10))
    assert device.sizes == sizes
    assert splitter.max_batch == max_batch
    warnings = sizes.index(max_batch) if room < 8 else 0
    assert caplog.text.count('out of memory') == warnings
    assert warnings or not caplog.text


def test_smaller_batch_stays():
    device, splitter = Device(3), BatchSplitter(8)
    splitter.encode(images(8), device.encode)
    device.sizes.clear()
    splitter.encode(images(5), device.encode)
    assert device.sizes == [2, 2, 1]


def test_each_halving_is_reported_to_free_buffers():
    freed = []
    BatchSplitter(8, on_shrink=freed.append).encode(images(8), Device(2).encode)
    assert freed == [4, 2]


def test_no_memory_for_one_image_is_an_error_with_advice():
    splitter = BatchSplitter(4)
    with pytest.raises(EncoderError, match=r'single image.*smaller backbone.*2\.00 GiB'):
        splitter.encode(images(4), Device(0).encode)


def test_other_errors_do_not_halve_the_batch():
    def broken(batch):
        raise RuntimeError('expected scalar type Half')

    splitter = BatchSplitter(4)
    with pytest.raises(RuntimeError, match='scalar type'):
        splitter.encode(images(4), broken)
    assert splitter.max_batch == 4


@pytest.mark.parametrize('max_batch', [0, -1])
def test_max_batch_must_be_positive(max_batch):
    with pytest.raises(ValueError, match=f'max_batch={max_batch}: expected at least 1'):
        BatchSplitter(max_batch)
