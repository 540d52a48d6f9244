"""Parts of a batch, and smaller ones when memory runs out."""

import numpy as np
import pytest
import torch

from step_ros.encoders.base import Batches, EncoderError


def images(count):
    return [np.full((2, 2, 3), index, dtype=np.uint8) for index in range(count)]


class Device:
    """Encodes an image as its first value, as long as a batch has room."""

    def __init__(self, room):
        self.room = room
        self.sizes = []

    def encode(self, part):
        self.sizes.append(len(part))
        if len(part) > self.room:
            raise torch.cuda.OutOfMemoryError('Tried to allocate 2.00 GiB')
        return torch.tensor([float(image[0, 0, 0]) for image in part]).view(-1, 1, 1)


@pytest.mark.parametrize(
    ('room', 'sizes', 'most'),
    [
        (9, [8, 2], 8),
        (5, [8, 4, 4, 2], 4),
        (3, [8, 4, 2, 2, 2, 2, 2], 2),
        (1, [8, 4, 2, *[1] * 10], 1),
    ],
)
def test_a_batch_is_halved_until_there_is_room(room, sizes, most, caplog):
    device, batches = Device(room), Batches(8)
    tokens_b11 = batches.run(images(10), device.encode)
    assert tokens_b11.flatten().tolist() == list(range(10))
    assert device.sizes == sizes
    assert batches.most == most
    assert caplog.text.count('out of memory') == sizes.index(most) if room < 8 else not caplog.text


def test_the_smaller_batch_stays():
    device, batches = Device(3), Batches(8)
    batches.run(images(8), device.encode)
    device.sizes.clear()
    batches.run(images(5), device.encode)
    assert device.sizes == [2, 2, 1]


def test_what_was_kept_for_larger_batches_is_let_go():
    freed = []
    Batches(8, on_shrink=freed.append).run(images(8), Device(2).encode)
    assert freed == [4, 2]


def test_no_room_for_one_image_is_an_error_that_names_the_mend():
    batches = Batches(4)
    with pytest.raises(EncoderError, match=r'single image.*smaller backbone.*2\.00 GiB'):
        batches.run(images(4), Device(0).encode)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(part):
        raise RuntimeError('expected scalar type Half')

    batches = Batches(4)
    with pytest.raises(RuntimeError, match='scalar type'):
        batches.run(images(4), broken)
    assert batches.most == 4


@pytest.mark.parametrize('most', [0, -1])
def test_a_batch_has_an_image(most):
    with pytest.raises(ValueError, match=f'max_batch={most}: expected at least 1'):
        Batches(most)
