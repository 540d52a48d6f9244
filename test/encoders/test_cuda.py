# SPDX-License-Identifier: Apache-2.0
"""The CUDA encoder: its logic on the CPU, and all of it on a CUDA device if there is one."""

import numpy as np
import pytest
import torch

from step_ros.encoders.base import EncoderError, TorchEncoder
from step_ros.encoders.cuda import MAX_IMAGE_SHAPES, CudaEncoder, batch_sizes
from step_ros.encoders.factory import TOLERANCES
from step_ros.model.backbone import Backbone

CPU = torch.device('cpu')
DEVICES = [
    CPU,
    pytest.param(
        torch.device('cuda'),
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason='torch finds no CUDA device'
        ),
    ),
]
# Shapes of the encoder, of larger cameras, and of one camera that is cropped on both sides.
SHAPES = [(32, 48), (480, 640), (32, 48), (64, 240), (480, 640)]


class HungryBackbone(Backbone):
    """A backbone that runs out of memory with more than `room` images."""

    room = 10**6

    def forward(self, x_b3hw):
        if len(x_b3hw) > self.room:
            raise torch.cuda.OutOfMemoryError('Tried to allocate 2.00 GiB')
        return super().forward(x_b3hw)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


@pytest.fixture
def backbone(tiny_model):
    return tiny_model().backbone


@pytest.fixture
def hungry(backbone):
    return HungryBackbone(backbone.vit, name=backbone.name, digest=backbone.digest)


def assert_close(found, expected, *, precision):
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    share = (found.cpu() - expected).abs().max() / expected.abs().max()
    assert share <= TOLERANCES[precision]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('max_batch', [1, 3, 16])
def test_tokens_keep_the_order_of_images_of_any_size(
    device, precision, max_batch, backbone, images
):
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    encoder = CudaEncoder(backbone, device=device, precision=precision, max_batch=max_batch)
    assert_close(encoder.encode(images), expected, precision=precision)
    assert_close(encoder.encode(images[::-1]).flip(0), expected, precision=precision)


@pytest.mark.parametrize('device', DEVICES)
def test_next_images_do_not_overwrite_tokens(device, backbone, images):
    encoder = CudaEncoder(backbone, device=device, precision='float32')
    first = encoder.encode(images[:1])
    copy = first.clone()
    encoder.encode(images[1:2])
    torch.testing.assert_close(first, copy, rtol=0, atol=0)


def test_given_backbone_is_not_changed(backbone, images):
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    CudaEncoder(backbone, device=CPU, precision='bfloat16')
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(
        TorchEncoder(backbone, device=CPU).encode(images), expected, rtol=0, atol=0
    )


@pytest.mark.parametrize('room', [1, 2, 5])
def test_out_of_memory_at_the_start_halves_the_batch(room, hungry, images):
    expected = TorchEncoder(hungry, device=CPU).encode(images)
    hungry.room = room
    encoder = CudaEncoder(hungry, device=CPU, precision='float32', max_batch=16)
    assert_close(encoder.encode(images), expected, precision='float32')


def test_out_of_memory_later_halves_the_batch(hungry, images, caplog, monkeypatch):
    expected = TorchEncoder(hungry, device=CPU).encode(images)
    encoder = CudaEncoder(hungry, device=CPU, precision='float32', max_batch=4)
    # The encoder runs a copy of the backbone, which is of the same class.
    monkeypatch.setattr(HungryBackbone, 'room', 1)
    assert_close(encoder.encode(images), expected, precision='float32')
    assert 'out of memory with a batch of 2 images; max_batch is now 1' in caplog.text


def test_no_memory_for_one_image_is_an_error(hungry):
    hungry.room = 0
    with pytest.raises(EncoderError, match='out of memory with a single image'):
        CudaEncoder(hungry, device=CPU)


def test_buffers_are_kept_for_the_last_image_shapes(backbone):
    encoder = CudaEncoder(backbone, device=CPU, precision='float32')
    sides = range(40, 40 + 2 * MAX_IMAGE_SHAPES)
    for side in sides:
        encoder.encode([np.zeros((side, side, 3), dtype=np.uint8)])
    assert encoder.buffered_shapes == tuple((side, side) for side in sides[-MAX_IMAGE_SHAPES:])


@pytest.mark.parametrize(
    ('max_batch', 'expected'),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])],
)
def test_batch_sizes_are_powers_of_two_and_the_largest(max_batch, expected):
    assert batch_sizes(max_batch) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA device')
def test_batches_in_flight_do_not_overwrite_each_other(backbone):
    encoder = CudaEncoder(backbone, device=torch.device('cuda'), precision='float32', max_batch=8)
    assert 'CUDA graphs for batches of 1, 2, 4, 8' in encoder.description
    torch_encoder = TorchEncoder(backbone, device=CPU)
    random = np.random.default_rng(0)
    given = [
        [random.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(count)]
        for count in (1, 3, 8, 2, 11, 1)
    ]
    # All uploads start before the first tokens are read: pinned memory must not be overwritten.
    found = [encoder.encode(images) for images in given]
    for images, tokens_bnd in zip(given, found, strict=True):
        assert tokens_bnd.is_cuda
        assert_close(tokens_bnd, torch_encoder.encode(images), precision='float32')
