"""OpenVINO says what torch says."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from step_ros.encoders import openvino
from step_ros.encoders.base import TorchEncoder
from step_ros.encoders.factory import TOLERANCES
from step_ros.encoders.openvino import OpenVinoEncoder, convert_backbone

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
def test_tokens_are_those_of_torch(head, precision, token_grid, tiny_model, images):
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


def test_tokens_outlive_the_next_images(tiny_model, images):
    encoder = OpenVinoEncoder(convert_backbone(tiny_model().backbone))
    first = encoder.encode(images[:1])
    copy = first.clone()
    encoder.encode(images[1:2])
    torch.testing.assert_close(first, copy, rtol=0, atol=0)


@pytest.mark.parametrize('few_bytes', [0, 1 << 30])
def test_with_few_weights_or_many_each_image_has_its_own_tokens(
    few_bytes, tiny_model, images, monkeypatch
):
    monkeypatch.setattr(openvino, '_FEW_BYTES', few_bytes)
    encoder = OpenVinoEncoder(convert_backbone(tiny_model().backbone))
    alone = torch.cat([encoder.encode([image]) for image in images])
    # What fits a size, and what is left over.
    for count in (2, 3, 4, 6, 9):
        found = encoder.encode([images[index % len(images)] for index in range(count)])
        expected = torch.stack([alone[index % len(images)] for index in range(count)])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def run(code):
    """Run code in a process of its own: what was imported once stays."""
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=False
    )


def test_it_reports_to_nobody():
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


def test_signals_are_survived_when_encoders_have_come_and_gone():
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
