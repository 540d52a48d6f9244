# SPDX-License-Identifier: Apache-2.0
"""The torch encoder: the same tokens for any batch size, precision and device."""

import numpy as np
import pytest
import torch

from step_ros.encoders.base import TorchEncoder, choose_device
from step_ros.encoders.factory import TOLERANCES
from step_ros.images.resize import fit_image
from step_ros.model.backbone import Backbone

CPU = torch.device('cpu')


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(7)]


@pytest.fixture
def backbone(tiny_model):
    return tiny_model().backbone


def passes(backbone):
    """Return a list to which each forward pass of the backbone adds its batch size."""
    sizes = []
    backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    return sizes


def test_tokens_equal_the_backbone(backbone, images):
    x_b3hw = np.stack(images).transpose(0, 3, 1, 2) / 255
    x_b3hw = (x_b3hw - np.reshape(backbone.mean, (3, 1, 1))) / np.reshape(backbone.std, (3, 1, 1))
    expected = backbone(torch.from_numpy(x_b3hw).float())
    tokens_bnd = TorchEncoder(backbone, device=CPU).encode(images)
    assert tokens_bnd.shape == (7, 6, 32)
    assert tokens_bnd.dtype == torch.float32
    assert not tokens_bnd.requires_grad
    torch.testing.assert_close(tokens_bnd, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('max_batch', 'expected'), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (16, [7])]
)
def test_split_batch_equals_one_batch(max_batch, expected, backbone, images):
    whole = TorchEncoder(backbone, device=CPU).encode(images)
    sizes = passes(backbone)
    tokens_bnd = TorchEncoder(backbone, device=CPU, max_batch=max_batch).encode(images)
    assert sizes == expected
    torch.testing.assert_close(tokens_bnd, whole, rtol=1e-5, atol=1e-5)


def test_images_of_any_size_share_a_batch(backbone):
    random = np.random.default_rng(1)
    images = [
        random.integers(0, 256, (*size, 3), dtype=np.uint8)
        for size in [(32, 48), (480, 640), (20, 20), (64, 96)]
    ]
    sizes = passes(backbone)
    encoder = TorchEncoder(backbone, device=CPU)
    tokens_bnd = encoder.encode(images)
    assert sizes == [4]
    fitted = encoder.encode([fit_image(image, (32, 48)) for image in images])
    torch.testing.assert_close(tokens_bnd, fitted, rtol=0, atol=0)
    assert len({tuple(tokens_nd[0].tolist()) for tokens_nd in tokens_bnd}) == 4


def test_images_are_not_changed(backbone, images):
    images[0].flags.writeable = False
    before = [image.copy() for image in images]
    TorchEncoder(backbone, device=CPU).encode(images)
    for image, copy in zip(images, before, strict=True):
        np.testing.assert_array_equal(image, copy)


# ---- tracing and precisions


class MoodyBackbone(Backbone):
    """A backbone whose operations depend on the image, so that a trace of it is wrong."""

    def forward(self, x_b3hw):
        return super().forward(x_b3hw) * float(x_b3hw[0, 0, 0, 0])


def test_traced_backbone_gives_the_same_tokens(backbone, images):
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    encoder = TorchEncoder(backbone, device=CPU, traced=True, max_batch=4)
    assert encoder.description == 'torch on cpu, float32, traced'
    sizes = passes(backbone)
    torch.testing.assert_close(encoder.encode(images), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.encode(images[:1]), expected[:1], rtol=1e-5, atol=1e-5)
    assert not sizes  # the trace runs, not the module


def test_backbone_with_a_wrong_trace_runs_without_it(backbone, images):
    moody = MoodyBackbone(backbone.vit, name=backbone.name, digest=backbone.digest)
    encoder = TorchEncoder(moody, device=CPU, traced=True)
    assert encoder.description == 'torch on cpu, float32'
    torch.testing.assert_close(
        encoder.encode(images), TorchEncoder(moody, device=CPU).encode(images), rtol=0, atol=0
    )


@pytest.mark.parametrize('traced', [False, True])
def test_bfloat16_returns_close_float32_tokens(traced, backbone, images):
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    encoder = TorchEncoder(backbone, device=CPU, precision='bfloat16', traced=traced)
    tokens_bnd = encoder.encode(images)
    assert tokens_bnd.dtype == torch.float32
    difference = float((tokens_bnd - expected).abs().max() / expected.abs().max())
    assert 0 < difference <= TOLERANCES['bfloat16']


def test_out_of_memory_halves_the_batch(backbone, images):
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    sizes = passes(backbone)

    def run_out_of_memory(module, inputs):
        if len(inputs[0]) > 3:
            raise torch.cuda.OutOfMemoryError('Tried to allocate 2.00 GiB')

    backbone.register_forward_pre_hook(run_out_of_memory)
    tokens_bnd = TorchEncoder(backbone, device=CPU).encode(images)
    assert sizes == [3, 3, 1]
    torch.testing.assert_close(tokens_bnd, expected, rtol=1e-5, atol=1e-5)


# ---- devices


def test_cpu_is_always_available():
    assert choose_device('cpu') == CPU


def test_auto_is_cuda_if_available():
    assert choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.mark.parametrize('wanted', ['', 'gpu', 'cuda:', 'cuda:x', 'cuda:-1', 'CPU', 'cpu,cuda'])
def test_unknown_devices_are_refused(wanted):
    with pytest.raises(ValueError, match=r'unknown; expected auto, cpu, cuda'):
        choose_device(wanted)


@pytest.mark.parametrize('wanted', ['mps', 'meta', 'xpu'])
def test_unsupported_devices_are_refused(wanted):
    with pytest.raises(ValueError, match=rf"'{wanted}' is not supported; expected auto, cpu"):
        choose_device(wanted)


def test_missing_cuda_device_is_refused():
    count = torch.cuda.device_count()
    with pytest.raises(ValueError, match=rf"'cuda:{count}' not found.*{count} CUDA devices"):
        choose_device(f'cuda:{count}')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_cuda_without_a_device_is_refused():
    with pytest.raises(ValueError, match=r"'cuda' not found: torch finds 0 CUDA devices"):
        choose_device('cuda')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA device')
def test_cuda_agrees_with_the_cpu(tiny_model, images):
    on_cpu = TorchEncoder(tiny_model().backbone, device=CPU).encode(images)
    encoder = TorchEncoder(tiny_model().backbone, device=choose_device('cuda'), max_batch=3)
    on_cuda = encoder.encode(images)
    assert on_cuda.device.type == 'cuda'
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-2, atol=1e-2)
