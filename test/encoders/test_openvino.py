# SPDX-License-Identifier: Apache-2.0
"""OpenVINO gives the tokens of torch, without telemetry, and survives signals."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from step_ros.encoders import openvino
from step_ros.encoders.base import TorchEncoder
from step_ros.encoders.factory import TOLERANCES
from step_ros.encoders.openvino import OpenVinoEncoder, convert_backbone

pytestmark = pytest.mark.slow

pytest.importorskip('openvino', reason='OpenVINO is not installed')

CPU = torch.device('cpu')


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    shapes = [(32, 48), (480, 640), (20, 20), (32, 48)]
    return [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize(
    ('head', 'precision', 'token_grid'),
    [
        ('step', 'float32', None),
        ('step', 'float32', (2, 1)),
        ('step', 'bfloat16', None),
        ('linear', 'float32', None),
    ],
)
def test_tokens_equal_torch(head, precision, token_grid, tiny_model, images):
    options = None if head == 'step' else {}
    backbone = tiny_model(head=head, options=options, token_grid=token_grid).backbone
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    encoder = OpenVinoEncoder(convert_backbone(backbone), precision=precision)
    found = encoder.encode(images)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    difference = float((found - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCES[precision]
    assert encoder.device == CPU
    assert precision in encoder.description


def test_next_images_do_not_overwrite_tokens(tiny_model, images):
    encoder = OpenVinoEncoder(convert_backbone(tiny_model().backbone))
    first = encoder.encode(images[:1])
    copy = first.clone()
    encoder.encode(images[1:2])
    torch.testing.assert_close(first, copy, rtol=0, atol=0)


@pytest.mark.parametrize('small_model_bytes', [0, 1 << 30])
def test_batches_give_each_image_its_own_tokens(
    small_model_bytes, tiny_model, images, monkeypatch
):
    monkeypatch.setattr(openvino, 'SMALL_MODEL_BYTES', small_model_bytes)
    encoder = OpenVinoEncoder(convert_backbone(tiny_model().backbone))
    alone = torch.cat([encoder.encode([image]) for image in images])
    # These counts include batch sizes, sums of them, and remainders.
    for count in (2, 3, 4, 6, 9):
        found = encoder.encode([images[index % len(images)] for index in range(count)])
        expected = torch.stack([alone[index % len(images)] for index in range(count)])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def run(code):
    """Run code in a new process, in which OpenVINO was not imported before."""
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=False
    )


def test_openvino_loads_without_telemetry():
    code = (
        'import sys\n'
        'from step_ros.encoders.openvino import load_openvino\n'
        'load_openvino()\n'
        'import nncf\n'
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert not any(name.startswith('openvino_telemetry.') for name in sys.modules)\n"
    )
    pytest.importorskip('nncf', reason='NNCF is not installed')
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_process_survives_signals_after_encoders_are_gone():
    code = (
        'import gc, os, signal\n'
        'from step_ros.model.backbone import create_backbone\n'
        'from step_ros.encoders.openvino import OpenVinoEncoder, convert_backbone\n'
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
        "small = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}\n"
        "backbone = create_backbone('vit_tiny_patch16_224', weights='random', arguments=small)\n"
        'first, second = (OpenVinoEncoder(convert_backbone(backbone)) for _ in range(2))\n'
        'del first; gc.collect(); del second; gc.collect()\n'
        'os.kill(os.getpid(), signal.SIGUSR1)\n'
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['heard']
